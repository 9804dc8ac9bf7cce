"""Hooks that follow the layers of a model, forward and backward, without touching a tensor.

A *unit* is what is timed: every module that calls no other, and every module that itself computes beside the
modules inside it (attention between its projections). Forward, hooks of the units note when they begin and
end. Backward, the graph's own nodes tell: the node that made a unit's output runs first of the unit's, and
the node that made its input runs when the unit is over. Hooks on nodes see gradients and change nothing;
module backward hooks, which others use, put a function into the graph and forbid in-place edits.

What a unit does while a backward pass is under way is recomputed for it, and belongs to that.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from energyprof.flops.gentle import Hook, in_backward
from energyprof.flops.inputs import tensors
from energyprof.layers.switches import BACKWARD, FORWARD, NONE, Switches

_NO_TASK = -1
_task: Any = torch._C._current_graph_task_id
_engine: Any = torch.autograd.Variable._execution_engine


class UnitHooks:
    """The hooks of one model's units, from `open` to `close`."""

    def __init__(
        self,
        units: Sequence[torch.nn.Module],
        switches: Switches,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._switches = switches
        self._told = failed
        self._thread = threading.get_ident()
        self._units = units
        self._handles: list[Any] = []
        # Units that run, what ran before each, and the nodes that made its inputs.
        self._stack: list[tuple[int, int, list[Any]]] = []
        self._above: list[int] = [NONE] * len(units)  # the unit around each when it ran last
        self._tasks: set[int] = set()  # backward passes at whose end we are told
        self.shapes: dict[int, str] = {}
        self.live = False

    def open(self) -> None:
        self.live = True
        for number, unit in enumerate(self._units):
            add = unit.register_forward_pre_hook, unit.register_forward_hook
            self._handles.append(add[0](self._entering(number), with_kwargs=True))
            self._handles.append(add[1](self._leaving(number), with_kwargs=True, always_call=True))

    def close(self) -> None:
        self.live = False
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._stack.clear()

    def _failed(self, fault: BaseException) -> None:
        """A fault of ours ends the timing of layers."""
        self.live = False
        self._told(fault)

    def _hook(self, work: Callable[[Any, Any], None]) -> Hook:
        """A hook that follows the modules of its own thread, and those that autograd calls again in another."""

        def of_this_thread(module: torch.nn.Module, inputs: Any, last: Any) -> None:
            if self.live and (threading.get_ident() == self._thread or in_backward()):
                work(inputs, last)

        return Hook(of_this_thread, self._failed)

    def _quiet(self, work: Callable[[], None]) -> Callable[[Any], None]:
        """The same for a hook of a node, which is given gradients."""

        def hook(gradients: Any) -> None:
            if not self.live:
                return
            try:
                work()
            except Exception as fault:
                self._failed(fault)

        return hook

    def _entering(self, number: int) -> Callable[..., None]:
        switches, stack = self._switches, self._stack

        def enter(args: Any, kwargs: Any) -> None:
            again = in_backward()
            nodes = _nodes((args, kwargs)) if torch.is_grad_enabled() else []
            if stack:
                self._above[number] = stack[-1][0]
            stack.append((number, switches.current, nodes))
            for node in nodes:
                node.register_prehook(self._over(number))
            if number not in self.shapes:
                self.shapes[number] = _shapes((args, kwargs))
            switches.to(2 * number + (BACKWARD if again else FORWARD))

        return self._hook(enter)

    def _leaving(self, number: int) -> Callable[..., None]:
        switches, stack = self._switches, self._stack

        def leave(args: Any, output: Any) -> None:
            given: list[Any] = []
            while stack:  # a unit that failed before its own hooks were reached is still there
                top, before, given = stack.pop()
                if top == number:
                    switches.to(before)
                    break
            if torch.is_grad_enabled():
                for node in _nodes(output):
                    if not any(node is one for one in given):  # else it passed its input on
                        node.register_prehook(self._due(number))

        return self._hook(leave)

    def _due(self, number: int) -> Callable[[Any], None]:
        """The gradient of a unit's output is known: its backward pass begins."""

        def due() -> None:
            task = _task()
            if task != _NO_TASK and task not in self._tasks:
                self._tasks.add(task)
                _engine.queue_callback(self._at_the_end(task))
            current = self._switches.current
            # One node may end several units, one inside the other: the innermost began first, and stays.
            if current != NONE and number in self._around(current // 2):
                return
            self._switches.to(2 * number + BACKWARD)

        return self._quiet(due)

    def _over(self, number: int) -> Callable[[Any], None]:
        """The gradient of a unit's input is known: its backward pass is over, if it still runs."""

        def over() -> None:
            current = self._switches.current
            running = current // 2
            if current != NONE and (running == number or number in self._around(running)):
                above = self._above[number]
                self._switches.to(NONE if above == NONE else 2 * above + BACKWARD)

        return self._quiet(over)

    def _at_the_end(self, task: int) -> Callable[[], None]:
        before = self._switches.current  # of a layer, where a backward pass runs inside one

        def ended() -> None:
            self._tasks.discard(task)
            if self.live:
                self._switches.to(before)

        return ended

    def _around(self, number: int) -> Iterator[int]:
        for _ in self._units:  # one that is called in several places may be around itself
            number = self._above[number]
            if number == NONE:
                return
            yield number


def _nodes(value: Any) -> list[Any]:
    """The nodes of the graph that made the tensors of a value, each once."""
    found: dict[int, Any] = {}
    for tensor in tensors(value):
        node = tensor.grad_fn
        if node is not None:
            found.setdefault(id(node), node)
    return list(found.values())


def _shapes(value: Any) -> str:
    return ", ".join("x".join(map(str, tensor.shape)) for tensor in tensors(value))
