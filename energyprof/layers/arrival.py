"""Do something once the program has imported PyTorch, without importing it for that.

Standard library alone: this runs before anything else in a program under `energyprof run`.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any


def when_torch_is_there(act: Callable[[], None]) -> None:
    """Call `act` now, or right after the program's `import torch`; what it raises is swallowed."""
    module = sys.modules.get("torch")
    if module is not None and hasattr(module, "nn"):
        _quietly(act)
    else:
        sys.meta_path.insert(0, _Waiting(act))


def _quietly(act: Callable[[], None]) -> None:
    try:
        act()
    except Exception:
        pass  # layers are not timed; the program is none the worse


class _Waiting:
    """A finder that lets the others find torch, and is gone once that has run.

    Asking for its spec, as `importlib.util.find_spec` does to see whether it is there, is no import.
    """

    def __init__(self, act: Callable[[], None]) -> None:
        self._act = act
        self._asking = False
        self._pid = os.getpid()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "torch" or self._asking or os.getpid() != self._pid:  # forked workers are not followed
            return None
        self._asking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._asking = False
        if spec is not None and hasattr(spec.loader, "exec_module"):
            self._follow(spec.loader)
        return spec

    def _follow(self, loader: Any) -> None:
        """This loader's run of the module is followed by `act`; after that the loader is what it was."""
        run = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module  # the class's own is back
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            run(module)
            _quietly(self._act)

        loader.exec_module = exec_module
