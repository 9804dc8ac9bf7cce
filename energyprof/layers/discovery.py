"""Which module is the model: the largest of those that are called while no other runs, again and again.

Hooks on all modules find the outermost ones. They are off while an outermost module runs, so that what is
compiled in there sees none of them, and off for good once the model is known and has waited its turn.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.nn.modules import module as modules

from energyprof.flops.gentle import Hook, capturing, in_backward
from energyprof.flops.hush import hush

_MOST_MODULES, _MOST_CALLS = 64, 10_000


class Discovery:
    """Tells of every call of an outermost module that has parameters, until it is closed.

    Parameters
    ----------
    called
        Is given the module, its inputs and its keyword inputs, before it runs.
    failed
        Is told of a fault of ours.
    """

    def __init__(
        self, called: Callable[[torch.nn.Module, Any, Any], None], failed: Callable[[BaseException], None]
    ) -> None:
        self._called, self._failed = called, failed
        self._everywhere: list[Any] = []
        self._own: weakref.WeakKeyDictionary[torch.nn.Module, list[Any]] = weakref.WeakKeyDictionary()
        self._speak: Callable[[], None] | None = None
        self._spoke: Callable[[], None] | None = None
        self._pid, self._calls = os.getpid(), 0
        self.thread: int | None = None  # in which the first of them was called

    def open(self) -> None:
        """Look for outermost modules: every one has a hook of its own from its first call on."""
        if self._speak is None:
            self._speak = hush()
        if not self._everywhere:
            self._everywhere = [modules.register_module_forward_pre_hook(Hook(self._first, self._failed))]

    def _elsewhere(self) -> bool:
        """Whether a call is of no step: in another process or thread, recomputed, or in a graph's capture."""
        here = os.getpid() == self._pid and self.thread in (None, threading.get_ident())
        return not here or in_backward() or capturing()

    def _first(self, module: torch.nn.Module, inputs: Any, named: Any) -> None:
        """A module that has no hook of ours is called, and no outermost module runs."""
        self._calls += 1
        if self._calls > _MOST_CALLS:
            return self.settle()
        if self._elsewhere() or module in self._own or not any(True for _ in module.parameters()):
            return
        self.thread = threading.get_ident()
        self._pause()
        if len(self._own) >= _MOST_MODULES:
            return self.settle()
        self._own[module] = [
            module.register_forward_pre_hook(Hook(self._again, self._failed), with_kwargs=True, prepend=True),
            module.register_forward_hook(Hook(self._ended, self._failed), always_call=True),
        ]
        self._called(module, inputs, {})

    def _again(self, module: torch.nn.Module, inputs: Any, named: Any) -> None:
        if module in self._own and not self._elsewhere():
            self._pause()
            self._called(module, inputs, named)

    def _ended(self, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        if module in self._own and self._speak is not None and not self._elsewhere():
            self.open()

    def _pause(self) -> None:
        for hook in self._everywhere:
            hook.remove()
        self._everywhere = []

    def settle(self) -> None:
        """No others are looked for; those that are known are followed still."""
        self._pause()
        if self._speak is not None:
            self._speak()
            self._spoke, self._speak = self._speak, None

    def keep(self, module: torch.nn.Module) -> None:
        """Follow this module alone."""
        for other in list(self._own):
            if other is not module:
                self._release(other)
        for hook in self._own.get(module, [])[1:]:
            hook.remove()

    def _release(self, module: torch.nn.Module) -> None:
        for hook in self._own.pop(module, []):
            hook.remove()

    def close(self) -> None:
        """No hook is left."""
        self.settle()
        if self._spoke is not None:
            self._spoke()  # again: the program may have had filters of its own in force the first time
        for module in list(self._own):
            self._release(module)
