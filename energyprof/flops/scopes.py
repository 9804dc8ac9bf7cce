"""Which module an operator belongs to, forward and backward, without a hook on any tensor.

Forward it is the innermost module that is running: hooks on all modules keep a stack. Every node of the
autograd graph bears a sequence number that rises as the graph is built, so that a list of the numbers at
which the running module changed says to which module a node of the backward pass belongs. What modules do
while a backward pass is under way (activation checkpointing) is recomputation.

Sequence numbers are counted a thread, hence a list a thread. Hooks on tensors, which others use for this,
break on inputs that modules share, on in-place edits and on `autograd.grad`.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from energyprof.flops.gentle import Hook
from energyprof.flops.hush import hush
from energyprof.flops.inputs import tensors

FORWARD, BACKWARD, RECOMPUTE = 0, 1, 2
_NO_TASK = -1

_task: Any = torch._C._current_graph_task_id
_sequence: Any = vars(torch.autograd)["_get_sequence_nr"]
_node: Any = torch._C._current_autograd_node


class Scopes:
    """Follows the modules of one thread, and of the threads in which autograd works for it: those of a model, or all.

    Attributes
    ----------
    calls
        How often each module was called, recomputation left out; in the order of first calls.
    outputs
        Elements of all its outputs in those calls.
    outermost
        The modules that were called while no other ran.
    """

    def __init__(self, model: torch.nn.Module | None = None) -> None:
        self._model = model
        self.saw_backward = False
        self.calls: dict[torch.nn.Module, int] = {}
        self.outputs: dict[torch.nn.Module, int] = {}
        self.outermost: dict[torch.nn.Module, None] = {}
        self._stack: list[tuple[torch.nn.Module, int]] = []  # and the backward pass that it was called in
        self._thread = threading.get_ident()
        self._starts: dict[int, list[int]] = {self._thread: [0]}
        self._owners: dict[int, list[torch.nn.Module | None]] = {self._thread: [None]}
        self._nested: dict[int, bool] = {}  # by backward pass
        self._noted_in = _NO_TASK  # the backward pass in which the running module last changed
        self._hooks: list[Any] = []
        self._speak: Callable[[], None] | None = None

    def open(self) -> None:
        """Follow every module from now on."""
        enter, leave = Hook(self._enter, self._failed), Hook(self._leave, self._failed)
        try:
            if self._model is None:
                self._speak = hush()
                self._hooks.append(register_module_forward_pre_hook(enter))
                self._hooks.append(register_module_forward_hook(leave, always_call=True))
                return
            for module in self._model.modules():
                if not isinstance(module, torch.jit.ScriptModule):
                    self._hooks.append(module.register_forward_pre_hook(enter))
                    self._hooks.append(module.register_forward_hook(leave, always_call=True))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        if self._speak is not None:
            self._speak()
            self._speak = None

    def _failed(self, fault: BaseException) -> None:
        """What a module gave is not ours to judge: its row says less, and the step goes on."""

    def enter(self, module: torch.nn.Module) -> None:
        """A module whose call is under way already."""
        self._enter(module, None)

    def here(self) -> tuple[torch.nn.Module | None, int]:
        """The module to which what is computed now belongs, and whether that is forward, backward or again."""
        task = _task()
        top = self._stack[-1] if self._stack else None
        if task == _NO_TASK:
            return (top[0] if top else None), FORWARD
        if top is not None and top[1] == task:
            return top[0], RECOMPUTE
        self.saw_backward = True
        if task not in self._nested:
            # A backward pass within another (reentrant checkpointing) is of nodes made just now, in this thread.
            self._nested[task] = self._noted_in not in (_NO_TASK, task)
        owner = self._owner_of(_node(), self._nested[task])
        if torch.is_grad_enabled():  # a graph of the gradients: its nodes are this module's as well
            self._note(owner, 1)  # this operator's own node is numbered before the operator is seen
        return owner, BACKWARD

    def _owner_of(self, node: Any, nested: bool) -> torch.nn.Module | None:
        if node is None:
            return None
        thread = threading.get_ident()
        key = thread if nested and thread in self._starts else self._thread
        place = bisect_right(self._starts[key], node._sequence_nr()) - 1
        return self._owners[key][place] if place >= 0 else None

    def _note(self, owner: torch.nn.Module | None, back: int = 0) -> None:
        """From the node that comes next on (or from `back` nodes before it) the graph is `owner`'s."""
        thread, self._noted_in = threading.get_ident(), _task()
        starts = self._starts.setdefault(thread, [0])
        owners = self._owners.setdefault(thread, [None])
        number = max(_sequence() - back, starts[-1])
        if owners[-1] is owner:
            return
        if starts[-1] == number:
            owners[-1] = owner
        else:
            starts.append(number)
            owners.append(owner)

    def _enter(self, module: torch.nn.Module, inputs: Any, named: Any = None) -> None:
        task = _task()
        if task == _NO_TASK:
            if threading.get_ident() != self._thread:
                return  # somebody else's
            if not self._stack:
                self.outermost[module] = None
            self.calls[module] = self.calls.get(module, 0) + 1
        self._stack.append((module, task))
        self._note(module)

    def _leave(self, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        task = _task()
        if task == _NO_TASK and threading.get_ident() != self._thread:
            return
        while self._stack:  # one that failed before its own hooks were reached is still there
            top, _ = self._stack.pop()
            if top is module:
                break
        self._note(self._stack[-1][0] if self._stack else None)
        if task == _NO_TASK:
            self.outputs[module] = self.outputs.get(module, 0) + sum(t.numel() for t in tensors(output))
