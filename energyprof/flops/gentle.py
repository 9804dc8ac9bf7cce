"""Hooks on a user's modules that are in nobody's way: not copied, not pickled, never raising, silent while traced."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch

# What stands for a hook in a copy of its module: a call that takes anything, does nothing and returns None, and of
# which a pickle names Python's own alone, so that it loads where energyprof is not.
_NOTHING = functools.partial(sys.audit, "energyprof.copied_hook")

_task: Any = torch._C._current_graph_task_id
_tracing: Any = torch._C._get_tracing_state


class Hook:
    """A forward hook or forward pre-hook of ours: calls `work(module, inputs, the last that it was given)`.

    A hook that is removed while the hooks of its module run may be called without the keyword inputs.
    """

    __slots__ = ("_failed", "_work")

    def __init__(self, work: Callable[..., None], failed: Callable[[BaseException], None]) -> None:
        self._work, self._failed = work, failed

    def __call__(self, module: torch.nn.Module, inputs: Any, *rest: Any) -> None:
        if torch.compiler.is_compiling() or _tracing() is not None:
            return
        try:
            self._work(module, inputs, rest[-1] if rest else {})
        except Exception as fault:  # ours: the program has nothing to do with it
            self._failed(fault)

    def __deepcopy__(self, memo: Any) -> Any:
        return _NOTHING

    def __reduce__(self) -> Any:
        return functools.partial, (sys.audit, "energyprof.copied_hook")


def in_backward() -> bool:
    """Whether a backward pass is under way in this thread: what runs is recomputed."""
    return bool(_task() != -1)


def capturing() -> bool:
    """Whether a CUDA graph is being captured: nothing of ours may become a part of it."""
    return bool(torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing())
