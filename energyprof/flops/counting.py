"""FLOPs that are executed: forward, backward and recomputed, by layer.

A dispatch mode sees every operator, takes its FLOPs from the shapes (`formulas`) and gives them to the
module that it belongs to (`scopes`). The mode computes nothing itself: what runs under it is bitwise what
runs without. It is entered for one step, or for a step on fake tensors, which compute nothing at all;
compiled models run eagerly meanwhile and are compiled afterwards as before.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from energyprof.flops.as_found import as_fakes, restored
from energyprof.flops.counted import Counted, gathered, unwrapped
from energyprof.flops.formulas import Formula, formula_of, gemm_like
from energyprof.flops.inputs import arguments, loss_of
from energyprof.flops.scopes import RECOMPUTE, Scopes


class FlopMode(TorchDispatchMode):
    """Counts what runs inside it: `with FlopMode() as mode: step()`, then `mode.counted(model)`.

    Parameters
    ----------
    model
        Whose modules are followed; None: whichever are called.
    eager
        Compiled code runs as it was written; else as it is, and what is inside it is not seen.
    """

    # Kernels behind higher-order operators are executed, never replaced.
    supports_higher_order_operators = True

    def __init__(self, model: torch.nn.Module | None = None, eager: bool = True) -> None:
        super().__init__()
        self.scopes, self.model = Scopes(model), model
        self._eager = eager
        self.uncounted: dict[str, int] = {}
        self._flops: dict[tuple[torch.nn.Module | None, int], int] = {}
        self._bytes: dict[torch.nn.Module | None, int] = {}
        self._types: dict[torch.dtype, int] = {}
        self._plans: dict[Any, tuple[bool, Formula | None, str, bool]] = {}
        self._stance: Any = None

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Compiled parts that run in spite of the stance stay compiled."""
        return True

    def __enter__(self) -> FlopMode:
        self._stance = eagerly() if self._eager else contextlib.nullcontext()
        self._stance.__enter__()
        try:
            self.scopes.open()
            super().__enter__()
        except BaseException:
            self.scopes.close()
            self._stance.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *exc: Any) -> None:
        try:
            super().__exit__(*exc)
        finally:
            self.scopes.close()
            self._stance.__exit__(None, None, None)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        plan = self._plans.get(func)
        if plan is None:
            plan = self._plans[func] = _plan(func)
        composite, formula, name, moves = plan
        if composite:  # in inference mode operators come whole that are made of others
            with self:
                whole = func.decompose(*args, **kwargs)
            if whole is not NotImplemented:
                return whole
        out = _experts(args, kwargs) if name == _GROUPED else None
        if out is None:
            out = func(*args, **kwargs)
        if formula is not None or moves:
            self._note(formula, name, moves, args, kwargs, out)
        return out

    def _note(
        self, formula: Formula | None, name: str, moves: bool, args: Any, kwargs: dict[str, Any], out: Any
    ) -> None:
        module, phase = self.scopes.here()
        if moves:
            read = _moved((out,)) if name in _GATHERS else _moved(args)
            self._bytes[module] = self._bytes.get(module, 0) + read + _moved((out,))
        if formula is None:
            return
        try:
            found = formula(args, kwargs, out)
        except Exception:  # a shape that we do not know: named, and the step goes on
            self.uncounted[name] = self.uncounted.get(name, 0) + 1
            return
        once, again = found if isinstance(found, tuple) else (found, 0)
        self._flops[module, phase] = self._flops.get((module, phase), 0) + once
        kind = args[0].dtype if args and isinstance(args[0], torch.Tensor) else torch.float32
        self._types[kind] = self._types.get(kind, 0) + once
        if again:
            self._flops[module, RECOMPUTE] = self._flops.get((module, RECOMPUTE), 0) + again

    def _dtype(self) -> str:
        """The type in which most was computed; float32 products may run as TensorFloat-32."""
        if not self._types:
            return ""
        kind = max(self._types, key=lambda one: self._types[one])
        if kind is torch.float32 and torch.cuda.is_available() and _tensor_float():
            return "tf32"
        return str(kind).removeprefix("torch.")

    def counted(self, model: torch.nn.Module | None = None, way: str = "step") -> Counted:
        """What was counted, of `model` or else of the outermost module that computed most."""
        totals: dict[torch.nn.Module, int] = {}
        for root in self.scopes.outermost:
            inside = set(root.modules())
            totals[root] = sum(flops for (module, _), flops in self._flops.items() if module in inside)
        if not totals:
            raise ValueError("no module was called while FLOPs were counted")
        root = model or max(totals, key=lambda module: totals[module])
        return gathered(root, self.scopes, self._flops, self._bytes, self.uncounted, way, self._dtype())


_GUARDED = FlopMode.__torch_dispatch__  # torch has it hidden from its compiler, which it loads for that: 2 s
_PLAIN = getattr(_GUARDED, "__wrapped__", _GUARDED)


def _dispatched(self: FlopMode, *args: Any, **kwargs: Any) -> Any:
    """Hidden from the compiler where a program has loaded it; nothing is compiled where not."""
    return (_GUARDED if "torch._dynamo" in sys.modules else _PLAIN)(self, *args, **kwargs)


FlopMode.__torch_dispatch__ = _dispatched  # type: ignore[method-assign]


def _nothing(args: Any, kwargs: Any, out: Any) -> int:
    raise NotImplementedError


def _tensor_float() -> bool:
    """Whether float32 products may run as TensorFloat-32; a program that uses the newer setting may not be asked
    for the older one."""
    try:
        return getattr(torch.backends.cuda.matmul, "fp32_precision", "") == "tf32" or bool(
            torch.backends.cuda.matmul.allow_tf32
        )
    except RuntimeError:
        return False


_GROUPED = "aten._grouped_mm"


def _experts(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The fake result of experts' products, whose rule for shapes knows bfloat16 alone; None: ask PyTorch.

    Shapes as in the documentation of torch.nn.functional.grouped_mm: rows in groups, or groups along the sum.
    """
    left, right = args[0], args[1]
    if not isinstance(left, FakeTensor) or left.dtype is torch.bfloat16:
        return None
    offsets: Any = args[2] if len(args) > 2 else kwargs.get("offs")
    if left.dim() == 2 and right.dim() == 2:
        return left.new_empty(offsets.shape[0], left.shape[0], right.shape[1])
    if left.dim() == 3 and right.dim() == 3:
        return left.new_empty(left.shape[0], left.shape[1], right.shape[2])
    return left.new_empty(left.shape[-2], right.shape[-1])


_GATHERS = ("aten.embedding", "aten.index", "aten.index_select", "aten.gather")  # of a table, what is taken
_SILENT = ("prim.", "c10d.", "profiler.")


def _plan(func: Any) -> tuple[bool, Formula | None, str, bool]:
    """What to do with an operator: take it apart first, its formula, its name, and whether it moves data."""
    packet = getattr(func, "_overloadpacket", func)
    name = str(packet)
    formula = formula_of(packet, name)
    if formula is None and gemm_like(name):
        formula = _nothing
    if not isinstance(func, torch._ops.OpOverload) or name.startswith(_SILENT):
        return False, formula, name, False  # of a higher order, or no operator of data
    composite = formula in (None, _nothing) and torch._C._dispatch_has_kernel_for_dispatch_key(
        func.name(), "CompositeImplicitAutograd"
    )
    return composite, formula, name, not func.is_view


def _moved(values: Any) -> int:
    total = 0
    for value in values:
        if isinstance(value, torch.Tensor):
            total += value.numel() * value.element_size()
        elif isinstance(value, (list, tuple)):
            total += _moved(value)
    return total


@contextlib.contextmanager
def eagerly() -> Iterator[None]:
    """Compiled functions run as they were written; what was compiled is kept (PyTorch 2.6 and later)."""
    stance = getattr(torch.compiler, "set_stance", None)
    if stance is None:
        yield
        return
    with stance("force_eager"):
        yield


def count(model: torch.nn.Module, batch: Any, *, backward: bool = True, fake: bool = False) -> Counted:
    """Count one forward pass of `model` on `batch`, and the backward pass of its loss.

    Parameters
    ----------
    model
        Left as it is found: its attributes, buffers, gradients, and the random states. Hooks of the program's
        own rest meanwhile.
    batch
        A tensor, a tuple of positional inputs, or a dict of keyword inputs.
    backward
        Differentiate the output's `loss`, or else the mean of its tensors.
    fake
        On fake tensors: shapes alone, nothing is computed.

    Raises
    ------
    ValueError
        Nothing in the output can be differentiated.
    """
    if fake:
        return _count_fake(model, *arguments(batch), backward)
    with restored(model), FlopMode(unwrapped(model)) as mode:
        _step(model, *arguments(batch), backward)
    return mode.counted(model)


def _step(model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], backward: bool) -> None:
    with torch.set_grad_enabled(backward):
        output = model(*args, **kwargs)
        if backward:
            loss_of(output).backward()


@contextlib.contextmanager
def _unlogged() -> Iterator[None]:
    """What fake tensors cannot do is raised; that they also log it at length helps nobody."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _count_fake(
    model: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], backward: bool
) -> Counted:
    """Count a call of the model from its shapes alone: parameters and inputs become fake tensors.

    Nothing is computed and nothing of the model, its random state or its gradients is touched.
    """
    fakes = FakeTensorMode(allow_non_fake_inputs=True)

    def faked(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return fakes.from_tensor(value)
        if isinstance(value, dict):
            return {name: faked(part) for name, part in value.items()}
        if type(value) in (tuple, list):
            return type(value)(faked(part) for part in value)
        return value

    inner = unwrapped(model)
    with _unlogged(), restored(inner, values=False), as_fakes(inner, fakes.from_tensor):
        args, kwargs = faked(args), faked(kwargs)
        with fakes, FlopMode(inner) as mode:
            _step(inner, args, kwargs, backward)
    return mode.counted(inner, way="fake tensors")
