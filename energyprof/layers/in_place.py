"""Layers timed in place: while a program trains, some of its steps are timed layer by layer.

The model is the largest of the outermost modules that are called again and again (`discovery`). A step lasts
from one call of it to the next. Of each signature (shapes and types of the inputs, mode) one step is counted as
it runs, under a dispatch mode that computes nothing: nothing runs twice, and the step is what it would have been.
In the active steps units are followed (`hooks`), and each step's switches are written to a log of their own, which
sealing reads (`reading`). Steps that were counted or timed are left out of every mean.

No exception leaves this file: what fails is noted, and the program goes on.
"""

from __future__ import annotations

import os
import weakref
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from energyprof.journal import Journal
from energyprof.layers.schedule import Schedule

if TYPE_CHECKING:
    import torch

    from energyprof.flops.counted import Counted
    from energyprof.flops.counting import FlopMode
    from energyprof.layers.discovery import Discovery
    from energyprof.layers.hooks import UnitHooks
    from energyprof.layers.switches import Switches

_COOL = 5  # steps after the active ones, for their length beside the active ones'
_MOST_SIGNATURES, _MOST_KNOWN = 16, 4096
_MOST_COUNTING, _FREELY_NS = 0.05, 3_000_000_000  # of the run's time, and not counting the first seconds
_MOST_CALLS = 64  # of the model before one backward pass
_RECOUNT, _SAME = 25, 3  # every so many steps; so many equal recounts are enough
_MOST_NOTES, _DOUBT = 20, 10
_COMPILED = "compiled: its layers cannot be counted or timed in place; `energyprof flops` and `layers` can"


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
        self._discovery: Discovery | None = None
        # Of the outermost modules, by their id: whether they are trained, and their parameters.
        self._sizes: dict[int, tuple[bool, int]] = {}
        self._of_root = (False, 0)
        self._root: weakref.ref[torch.nn.Module] | None = None
        self._closed, self._settled, self._notes = False, False, 0
        self._begun_ns = monotonic_ns()
        self._signatures: dict[Any, int] = {}
        self._occurred: dict[int, int] = {}
        self._calls = self._missed = 0
        self._counted: dict[int, Counted | None] = {}
        self._totals: dict[int, list[int]] = {}  # the FLOPs of a signature, each time that it was counted
        self._counter: tuple[FlopMode, int, str, int] | None = None  # mode, signature, kind of step, begin
        self._counter_calls = self._counting_ns = 0
        self._step, self._timed = -1, 0  # calls of the model, less one; steps that were timed
        self._hooks: UnitHooks | None = None
        self._switches: Switches | None = None
        self._is_active = False
        self._mode = ""
        self._begun_step_ns = 0
        self._names: list[str] = []
        self._kinds: list[tuple[str, str]] = []

    def open(self) -> None:
        """Look for the model: its calls are seen from now on."""
        from energyprof.layers.discovery import Discovery

        self._discovery = Discovery(self._called, self._failed)
        self._discovery.open()

    def close(self) -> None:
        """The run ends, or this process: what is known is written down, and no hook is left."""
        if self._closed:
            return
        self._closed = True
        try:
            self._finish()
        except Exception as fault:
            self._failed(fault)
        self._let_go()
        self.journal.close()

    def forget(self) -> None:
        """In a forked child: nothing is recorded, and nothing written."""
        self._closed = True
        if self._counter is not None and self._on_top(self._counter[0]):
            self._counter[0].__exit__(None, None, None)
        self._let_go()

    def _let_go(self) -> None:
        for one in (self._discovery, self._hooks):
            if one is not None:
                one.close()
        self._discovery = self._hooks = self._root = self._counter = None
        self._counted = dict.fromkeys(self._counted)

    def _failed(self, fault: BaseException) -> None:
        self._note(f"{type(fault).__name__}: {fault}")

    def _note(self, text: str) -> None:
        self._notes += 1
        if self._notes > _MOST_NOTES:
            return
        try:
            self.journal.event("note", text=" ".join(text.split())[:300])
        except (OSError, ValueError):
            pass

    def _called(self, module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        """An outermost module is called: is it the model? Until the first steps have waited, a larger one may come."""
        if self._closed or self._discovery is None:
            return
        if not self._settled:
            known = self._sizes.get(id(module))
            if known is None:
                self._sizes[id(module)] = _trained(module), sum(p.numel() for p in module.parameters())
                return
            known = self._sizes[id(module)] = known[0] or _trained(module), known[1]
            if not self._is_root(module) and (self._root is None or known > self._of_root):
                self._of_root = known
                self._root, self._step, self._missed = weakref.ref(module), -1, 1
                self._signatures, self._occurred = {}, {}
        if self._is_root(module):
            self._next_step(module, args, kwargs or {})

    def _is_root(self, module: torch.nn.Module) -> bool:
        return self._root is not None and self._root() is module

    def _next_step(self, root: torch.nn.Module, args: Any, kwargs: Any) -> None:
        import torch

        schedule = self.schedule
        self._step += 1
        self._calls += 1
        now = monotonic_ns()
        self._end_step(now)
        mode = f"{'train' if root.training else 'eval'}{'' if torch.is_grad_enabled() else ', no gradient'}"
        number = self._signature(mode, args, kwargs)
        self._occurred[number] = self._occurred.get(number, 0) + 1 + self._missed
        self._missed = 0  # the call before the model was known had this signature, as far as can be told
        if self._calls % 1000 == 0:
            self._write_occurrences()
        if not self._settled and self._discovery is not None and self._step >= schedule.wait:
            # A larger module that was called once so far may be the model: that is seen some steps later.
            if self._of_root >= max(self._sizes.values()) or self._step >= schedule.wait + _DOUBT:
                self._settle(root)
            else:
                self._begun_step_ns, self._mode = monotonic_ns(), mode
                return
        self._go_on_counting(root, number, mode)
        ready = self._step >= schedule.wait + schedule.warmup and self._timed < schedule.active
        if ready and self._hooks is None and self._counter is None:
            self._open_units(root)
        self._is_active = ready and self._hooks is not None and self._counter is None
        self._mode, self._begun_step_ns = mode, monotonic_ns()
        if self._hooks is not None and self._switches is not None:
            self._switches.begin(self._begun_step_ns)

    def _settle(self, root: torch.nn.Module) -> None:
        """The model is known: no other is looked for, and no other is followed."""
        assert self._discovery is not None
        self._settled = True
        self._discovery.settle()
        self._discovery.keep(root)
        others = len(self._sizes) - 1
        if others:
            self._note(
                f"{others} other modules were called beside {type(root).__name__}: they are not in these figures"
            )

    def _signature(self, mode: str, args: Any, kwargs: Any) -> int:
        key = mode, _shape(args), _shape(kwargs)
        known = self._signatures.get(key)
        if known is None:
            if len(self._signatures) >= _MOST_KNOWN:
                return -1
            known = self._signatures[key] = len(self._signatures)
        return known

    def _go_on_counting(self, root: torch.nn.Module, number: int, mode: str) -> None:
        """A step that is counted ends here, or is to be begun."""
        if self._counter is not None:
            counting, begun_with, _, _ = self._counter
            # Several calls, and one backward pass through all of them: a step is its part of the whole.
            waits = mode == "train" and not counting.scopes.saw_backward
            if waits and number == begun_with and self._counter_calls < _MOST_CALLS:
                self._counter_calls += 1
                return
            if not self._end_counting():
                return
        if (
            self._step < self.schedule.wait
            or number < 0
            or (number in self._counted and not self._again(number))
        ):
            return
        elapsed = monotonic_ns() - self._begun_ns
        late = self._counting_ns > _FREELY_NS + _MOST_COUNTING * elapsed
        new = number not in self._counted
        if self._counted and ((new and len(self._counted) >= _MOST_SIGNATURES) or late):
            return
        self._begin_counting(root, number, mode)

    def _again(self, number: int) -> bool:
        """Whether a signature is due to be counted once more: what a step computes may depend on its data."""
        known = self._totals.get(number, [])
        if self._timed < self.schedule.active or self._occurred[number] % _RECOUNT or not known:
            return False
        return len(known) <= _SAME or min(known) != max(known)

    def _begin_counting(self, root: torch.nn.Module, number: int, mode: str) -> None:
        import torch

        from energyprof.flops.counting import FlopMode

        self._counted.setdefault(number, None)
        if _compiled(root):
            self._note(_COMPILED)
            return
        if torch._C._len_torch_dispatch_stack():  # a mode of the program's own: ours cannot go before it
            self._note("FLOPs are not known: the program runs under a dispatch mode of its own")
            return
        counting = FlopMode(root, eager=False)
        counting.__enter__()
        counting.scopes.enter(root)  # its call is under way: the hooks on it are for the next
        self._counter, self._counter_calls = (counting, number, mode, monotonic_ns()), 1

    def _end_counting(self) -> bool:
        """The counted step is over; False while a mode of the program's lies on top of ours."""
        assert self._counter is not None
        counting, number, mode, begin = self._counter
        if not self._on_top(counting):
            return False
        counting.__exit__(None, None, None)
        self._counter = None
        end = monotonic_ns()
        self._counting_ns += end - begin
        self.journal.event("counting", begin=begin, end=end)
        if mode == "train" and not counting.scopes.saw_backward:
            self._note("FLOPs are those of forward passes alone: no backward pass followed the model's calls")
        root = counting.model
        assert root is not None
        counted = self._counted[number] = counting.counted(root)
        self._totals.setdefault(number, []).append(counted.hardware_flops)
        self._write_counted(root, number, mode, counted, self._counter_calls)
        return True

    def _on_top(self, mode: FlopMode) -> bool:
        from torch.utils._python_dispatch import _get_current_dispatch_mode

        return _get_current_dispatch_mode() is mode

    def _write_counted(
        self, root: torch.nn.Module, number: int, mode: str, counted: Counted, calls: int
    ) -> None:
        from dataclasses import asdict

        facts = {"model": counted.model, "uncounted": dict(counted.uncounted), "mode": mode}
        facts.update(dtype=counted.dtype, **_device_facts(root))
        rows = [
            [_part(name, value, calls) for name, value in asdict(layer).items()] for layer in counted.layers
        ]
        self.journal.event(
            "counted", signature=number, columns=list(asdict(counted.layers[0])), rows=rows, **facts
        )

    def _open_units(self, root: torch.nn.Module) -> None:
        from energyprof.flops.counted import plain_name, unwrapped
        from energyprof.layers.hooks import UnitHooks
        from energyprof.layers.switches import Switches

        if _compiled(root):
            self._timed = self.schedule.active
            if not self._counted:
                self._note(_COMPILED)
            return
        counted = next((c for c in self._counted.values() if c is not None), None)
        computing = {layer.name for layer in counted.layers if layer.own_flops} if counted else None
        chosen: list[torch.nn.Module] = []
        for name, module in unwrapped(root).named_modules():
            plain = plain_name(name)
            inside = next(module.children(), None) is not None
            if not inside or computing is None or plain in computing:
                self._names.append(plain)
                self._kinds.append((type(module).__name__, f"{module.extra_repr()} {_parameters_of(module)}"))
                chosen.append(module)
        self._switches = Switches()
        self._switches.device = self._new_device(self.stem, self.journal) if self._new_device else None
        self._hooks = UnitHooks(chosen, self._switches, self._failed)
        self._hooks.open()
        self.journal.event("thread", thread=self._switches.thread)

    def _end_step(self, now: int) -> None:
        """What the step before was: how long, and, where it was active, its switches."""
        step, hooked = self._step - 1, self._hooks is not None
        active = self._is_active and self._hooks is not None and self._hooks.live
        times: list[int] = []
        layers: list[int] = []
        if self._switches is not None and hooked:
            self._switches.end()
            times, layers = self._switches.take()
        if step < 0 or (not hooked and self._timed >= self.schedule.active + _COOL):
            return
        facts: dict[str, Any] = {"step": step, "mode": self._mode, "begin": self._begun_step_ns, "end": now}
        if active:
            if self._timed == 0:
                self.journal.event("units", units=self._units())
            facts.update(layers=layers, times=[t - self._begun_step_ns for t in times])
        self._timed += active or (self._timed >= self.schedule.active and not hooked)
        self.journal.event("step", active=active, hooked=hooked, **facts)
        if self._timed >= self.schedule.active and self._hooks is not None:
            self._hooks.close()
            self._hooks = None
            if self._switches is not None and self._switches.device is not None:
                self._switches.device.finish(0.0)

    def _units(self) -> list[list[str]]:
        assert self._hooks is not None
        shapes = self._hooks.shapes
        return [
            [name, kind, f"{text} <- {shapes.get(number, '')}"]
            for number, (name, (kind, text)) in enumerate(zip(self._names, self._kinds))
        ]

    def _finish(self) -> None:
        first = self.schedule.wait + self.schedule.warmup
        if self._root is None:
            self._note("no module with parameters was called twice: there are no steps to time")
            return
        if self._counter is not None and not self._end_counting():
            self._note(
                "FLOPs are not known: a dispatch mode of the program's own was entered in the counted step"
            )
        # The last step has no end: who knows how long the program went on after it.
        if self._step < first:
            calls = self._step + 2  # with the one before it was known to be the model
            self._note(
                f"the model was called {calls} times: the schedule waits for {first + 2} before it times"
            )
        if self._switches is not None and self._switches.device is not None:
            self._switches.device.finish(5.0)
        self._write_occurrences()

    def _write_occurrences(self) -> None:
        sizes = {
            number: [mode, _sizes_in((args, named))]
            for (mode, args, named), number in self._signatures.items()
        }
        rows = [[number, times, *sizes.get(number, ["", []])] for number, times in self._occurred.items()]
        self.journal.event("occurred", signatures=rows)


def _part(name: str, value: Any, calls: int) -> Any:
    """A figure of one call of several."""
    whole = name in ("name", "kind", "depth", "leaf", "params")
    return value if whole or calls == 1 else value / calls


def _trained(module: torch.nn.Module) -> bool:
    """Whether a call is one of a training: what is only evaluated is not the model that is looked for."""
    import torch

    return module.training and torch.is_grad_enabled()


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


def _parameters_of(module: torch.nn.Module) -> str:
    """The shapes of a module's parameters: modules of one class that differ in them do not cost the same."""
    return " ".join("x".join(map(str, parameter.shape)) for parameter in module.parameters())[:500]


def _sizes_in(value: Any) -> list[list[int]]:
    """The shapes in what `_shape` made, one after the other."""
    import torch

    if isinstance(value, tuple) and len(value) == 3 and isinstance(value[1], torch.dtype):
        return [list(value[0])]
    return [shape for part in value for shape in _sizes_in(part)] if isinstance(value, tuple) else []


def _shape(value: Any) -> Any:
    """The shapes and types of the tensors in a value, hashable; of other things their type."""
    import torch

    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.dtype, value.requires_grad
    if isinstance(value, dict):
        return tuple((str(name), _shape(part)) for name, part in value.items())
    if isinstance(value, (tuple, list)):
        return tuple(_shape(part) for part in value)
    return type(value).__name__
