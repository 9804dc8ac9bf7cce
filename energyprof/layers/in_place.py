"""Layers timed in place: while a program trains, some of its steps are timed layer by layer.

The model is the outermost module that is called again and again; of several the one with most parameters.
A step lasts from one call of it to the next. Of each signature (shapes and types of the inputs, mode) the
FLOPs are counted once, on fake tensors, so that nothing runs twice; the time that this takes is noted, to
be left out of every mean. In the active steps units are followed (`hooks`) and each step's switches are
written to a log of their own, which sealing reads (`reading`).

No exception leaves this file: what fails is noted, and the program goes on.
"""

from __future__ import annotations

import os
import threading
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from energyprof.journal import Journal
from energyprof.layers.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from energyprof.flops.counted import Counted
    from energyprof.layers.hooks import UnitHooks
    from energyprof.layers.switches import Switches

_COOL = 5  # steps after the active ones, for their length beside the active ones'
_MOST_SIGNATURES = 16
_MOST_COUNTING, _FREELY_NS = 0.05, 3_000_000_000  # of the run's time, and not counting the first seconds
_COMPILED = "compiled: a compiled model's layers cannot be timed in place; replay them"


class LayerTimer:
    """Follows one process's model in one run.

    Parameters
    ----------
    folder, stem
        The run's folder; this process in file names.
    schedule
        Which steps are timed.
    new_device
        Makes what records CUDA events into a journal and a stem, once the program uses CUDA; None where
        it does not.
    """

    def __init__(self, folder: str, stem: str, schedule: Schedule, new_device: Any = None) -> None:
        self.journal = Journal(os.path.join(folder, f"layers.{stem}.log"))
        self.stem = f"layers.{stem}"
        self.schedule = schedule
        self._new_device = new_device
        self._thread = threading.get_ident()
        self._handles: list[Any] = []
        self._seen: dict[torch.nn.Module, int] = {}  # outermost modules, and their calls
        self._missed = 0  # calls of the model before it was known to be that
        self._speak: Callable[[], None] | None = None
        self._inside = 0
        self._root: torch.nn.Module | None = None
        self._busy = self._closed = False
        self._begun_ns = monotonic_ns()
        self._signatures: dict[Any, int] = {}
        self._occurred: dict[int, int] = {}
        self._counted: dict[int, Counted | None] = {}
        self._counting_ns = 0
        self._step = -1
        self._hooks: UnitHooks | None = None
        self._switches: Switches | None = None
        self._mode = ""
        self._begun_step_ns = 0
        self._names: list[str] = []
        self._modules: list[torch.nn.Module] = []

    def open(self) -> None:
        """Look for the model: its calls are seen from now on."""
        from torch.nn.modules import module as modules

        from energyprof.flops.hush import hush

        self._speak = hush()
        self._handles = [
            modules.register_module_forward_pre_hook(self._seek),
            modules.register_module_forward_hook(self._sought, always_call=True),
        ]

    def close(self) -> None:
        """The run ends, or this process: what is known is written down, and no hook is left."""
        if self._closed:
            return
        self._closed = True
        self._guarded(self._finish)
        self._unhook()
        if self._hooks is not None:
            self._hooks.close()
        self.journal.close()

    def forget(self) -> None:
        """In a forked child: nothing is recorded, and nothing written."""
        self._unhook()
        if self._hooks is not None:
            self._hooks.close()
        self._busy = self._closed = True

    def _unhook(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if self._speak is not None:
            self._speak()
            self._speak = None

    def _guarded(self, work: Any, *arguments: Any) -> None:
        try:
            work(*arguments)
        except Exception as fault:  # ours: the program has nothing to do with it
            self._note(f"{type(fault).__name__}: {fault}")

    def _note(self, text: str) -> None:
        try:
            self.journal.event("note", text=" ".join(text.split())[:300])
        except (OSError, ValueError):
            pass

    def _seek(self, module: torch.nn.Module, inputs: Any) -> None:
        import torch

        if torch.compiler.is_compiling() or threading.get_ident() != self._thread or self._busy:
            return
        if self._inside == 0:
            self._seen[module] = self._seen.get(module, 0) + 1
            if self._seen[module] > 1:
                self._guarded(self._follow)
        self._inside += 1

    def _sought(self, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        import torch

        if torch.compiler.is_compiling() or threading.get_ident() != self._thread or self._busy:
            return
        self._inside = max(0, self._inside - 1)

    def _follow(self) -> None:
        """The model is known; hooks on all modules give way to one on it."""
        self._root = max(self._seen, key=lambda module: sum(p.numel() for p in module.parameters()))
        self._missed = self._seen[self._root]
        self._unhook()
        self._handles = [self._root.register_forward_pre_hook(self._called, with_kwargs=True, prepend=True)]
        self._seen = {}

    def _called(self, module: torch.nn.Module, args: Any, kwargs: Any = None) -> None:
        import torch

        if torch.compiler.is_compiling() or self._busy or threading.get_ident() != self._thread:
            return
        if torch._C._current_graph_task_id() == -1:  # what is recomputed is no new step
            self._guarded(self._next_step, args, kwargs or {})

    def _next_step(self, args: Any, kwargs: Any) -> None:
        import torch

        root, wait, warmup = self._root, self.schedule.wait, self.schedule.warmup
        assert root is not None
        mode = f"{'train' if root.training else 'eval'}{'' if torch.is_grad_enabled() else ', no gradient'}"
        number = self._signature(mode, args, kwargs)
        self._occurred[number] = self._occurred.get(number, 0) + 1 + self._missed
        self._missed = 0  # they had the signature of the next, as far as is known
        if sum(self._occurred.values()) % 1000 == 0:
            self._write_occurrences()
        self._step += 1
        last = wait + warmup + self.schedule.active + _COOL
        if self._step <= last:
            self._end_step()
        if self._step >= wait and number not in self._counted:
            self._count(number, mode, args, kwargs)
        if self._step == wait and self._hooks is None:
            self._open_units()
        if self._step == last - _COOL and self._hooks is not None:
            self._hooks.close()
            self._hooks = None
        if self._step <= last:
            self._mode = mode
            self._begun_step_ns = monotonic_ns()
        if self._step == last and self._switches is not None and self._switches.device is not None:
            self._switches.device.finish(0.0)

    def _signature(self, mode: str, args: Any, kwargs: Any) -> int:
        key = mode, _shape(args), _shape(kwargs)
        return self._signatures.setdefault(key, len(self._signatures))

    def _count(self, number: int, mode: str, args: Any, kwargs: Any) -> None:
        """The FLOPs of one signature, from its shapes alone."""
        elapsed = monotonic_ns() - self._begun_ns
        if self._counted and (
            len(self._counted) >= _MOST_SIGNATURES
            or self._counting_ns > _FREELY_NS + _MOST_COUNTING * elapsed
        ):
            return
        from energyprof.flops.counting import count_call

        begin = monotonic_ns()
        self._busy, self._counted[number] = True, None
        if self._hooks is not None:
            self._hooks.live = False
        try:
            self._counted[number] = count_call(self._root, args, kwargs, backward=mode == "train")
        except Exception as fault:
            self._note(f"FLOPs are not known: {type(fault).__name__}: {fault}")
        finally:
            self._busy = False
            if self._hooks is not None:
                self._hooks.live = True
            end = monotonic_ns()
            self._counting_ns += end - begin
        self.journal.event("counting", begin=begin, end=end)
        counted = self._counted[number]
        if counted is not None:
            from dataclasses import asdict

            rows = [list(asdict(layer).values()) for layer in counted.layers]
            facts = {"model": counted.model, "uncounted": dict(counted.uncounted), "mode": mode}
            facts.update(dtype=counted.dtype, **_device_facts(self._root))
            self.journal.event(
                "counted", signature=number, columns=list(asdict(counted.layers[0])), rows=rows, **facts
            )

    def _open_units(self) -> None:
        from energyprof.flops.counted import plain_name, unwrapped
        from energyprof.layers.hooks import UnitHooks
        from energyprof.layers.switches import Switches

        assert self._root is not None
        inner = unwrapped(self._root)
        if _compiled(self._root):
            self._note(_COMPILED)
            return
        counted = next((c for c in self._counted.values() if c is not None), None)
        computing = {layer.name for layer in counted.layers if layer.own_flops} if counted else None
        modules: list[torch.nn.Module] = []
        for name, module in inner.named_modules():
            plain = plain_name(name)
            inside = next(module.children(), None) is not None
            if not inside or computing is None or plain in computing:
                self._names.append(plain)
                modules.append(module)
        self._switches = Switches()
        self._switches.device = self._new_device(self.stem, self.journal) if self._new_device else None
        self._hooks = UnitHooks(modules, self._switches)
        self._modules = modules
        self._hooks.open()
        self.journal.event("thread", thread=self._switches.thread)

    def _end_step(self) -> None:
        """What the step before was: how long, and, where it was active, its switches."""
        step, now = self._step - 1, monotonic_ns()
        if step < 0:
            return
        first = self.schedule.wait + self.schedule.warmup
        active = first <= step < first + self.schedule.active and self._hooks is not None
        times: list[int] = []
        layers: list[int] = []
        if self._switches is not None:
            self._switches.to(-1)
            times, layers = self._switches.take()
        facts: dict[str, Any] = {"step": step, "mode": self._mode, "begin": self._begun_step_ns, "end": now}
        if active:
            if step == first:
                self.journal.event("units", units=self._units())
            facts.update(layers=layers, times=[t - self._begun_step_ns for t in times])
        self.journal.event("step", active=active, hooked=self._hooks is not None, **facts)

    def _units(self) -> list[list[str]]:
        assert self._hooks is not None
        shapes = self._hooks.shapes
        return [
            [
                name,
                type(module).__name__,
                f"{module.extra_repr()} {_sizes(module)} <- {shapes.get(number, '')}",
            ]
            for number, (name, module) in enumerate(zip(self._names, self._modules))
        ]

    def _finish(self) -> None:
        first = self.schedule.wait + self.schedule.warmup
        if 0 <= self._step < first + self.schedule.active and self._root is not None:
            self._step += 1
            self._end_step()
            if self._step <= first:
                self._note(
                    f"the model was called {self._step} times: the schedule waits for {first} before it times"
                )
        if self._root is None:
            self._note("no module was called twice: there are no steps to time")
        if self._switches is not None and self._switches.device is not None:
            self._switches.device.finish(5.0)
        self._write_occurrences()

    def _write_occurrences(self) -> None:
        sizes = {
            number: [mode, _sizes_in((args, kwargs))]
            for (mode, args, kwargs), number in self._signatures.items()
        }
        self.journal.event("occurred", signatures=[[k, v, *sizes[k]] for k, v in self._occurred.items()])


def _sizes(module: torch.nn.Module) -> str:
    """The shapes of a module's parameters: modules of one class that differ in them do not cost the same."""
    return " ".join("x".join(map(str, parameter.shape)) for parameter in module.parameters())[:500]


def _device_facts(root: torch.nn.Module | None) -> dict[str, Any]:
    """The GPU that the model is on, as PyTorch names it."""
    import torch

    on = (
        next((p.device for p in root.parameters() if p.device.type == "cuda"), None)
        if root is not None
        else None
    )
    if on is None:
        return {}
    facts = torch.cuda.get_device_properties(on)
    return {"device": facts.name, "units": facts.multi_processor_count}


def _compiled(root: torch.nn.Module) -> bool:
    return any(
        type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None
        for module in root.modules()
    )


def _sizes_in(value: Any) -> list[list[int]]:
    """The shapes in what `_shape` made, one after the other."""
    import torch

    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], torch.dtype):
        return [list(value[0])]
    return [shape for part in value for shape in _sizes_in(part)] if isinstance(value, tuple) else []


def _shape(value: Any) -> Any:
    """The shapes and types of the tensors in a value, hashable; of other things their type."""
    import torch

    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.dtype
    if isinstance(value, dict):
        return tuple((str(name), _shape(part)) for name, part in value.items())
    if isinstance(value, (tuple, list)):
        return tuple(_shape(part) for part in value)
    return type(value).__name__
