"""A model and a batch of the user's: `script.py:build` or `package.module:build` -> what `build()` returns."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from functools import partial
from types import ModuleType
from typing import Any

_HOW = "have a function `build` in it return (model, batch): a torch.nn.Module, and a tensor, tuple or dict of inputs"
_DEFAULT = "build"


class TargetError(ValueError):
    """There is no model there; the text says what to do, in one line."""


def load(target: str) -> tuple[Any, Any]:
    """The model and the batch that a target names.

    Parameters
    ----------
    target
        ``path/to/script.py:function`` or ``package.module:function``; the function is `build` where none is
        named. It takes no arguments. A script's `if __name__ == "__main__"` part does not run.

    Raises
    ------
    TargetError
        No such file, module or function; what it returned is no model with inputs; or it failed.
    """
    place, colon, name = target.rpartition(":")
    if not colon or os.path.exists(target):
        place, name = target, _DEFAULT
    name = name or _DEFAULT
    module = _module(place, target)
    found = getattr(module, name, None)
    if found is None:
        raise TargetError(f"{place} has no {name!r}; {_HOW}")
    return _checked(found, f"{place}:{name}")


def _module(place: str, target: str) -> ModuleType:
    if place.endswith(".py") or os.path.sep in place:
        if not os.path.isfile(place):
            raise TargetError(f"{place}: no such file; say script.py:build or package.module:build")
        name = os.path.splitext(os.path.basename(place))[0]
        spec = importlib.util.spec_from_file_location(f"{name}__target", place)
        if spec is None or spec.loader is None:
            raise TargetError(f"{place}: not a Python file")
        module = importlib.util.module_from_spec(spec)
        sys.path.insert(0, os.path.dirname(os.path.abspath(place)))  # what stands beside it can be imported
        sys.modules[spec.name] = module
        _run(partial(spec.loader.exec_module, module), place)
        return module
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        if importlib.util.find_spec(place) is None:
            raise TargetError(f"no module {place!r}; say script.py:build or package.module:build")
    except (ImportError, ValueError):
        raise TargetError(f"no module {place!r}; say script.py:build or package.module:build") from None
    return _run(lambda: importlib.import_module(place), place)


def _run(work: Any, place: str) -> Any:
    """The user's own code; what it raises is told with the line that raised it."""
    try:
        return work()
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as fault:  # also sys.exit
        frames = traceback.extract_tb(fault.__traceback__)
        own = [frame for frame in frames if not frame.filename.startswith(("<", os.path.dirname(__file__)))]
        where = f"{os.path.basename(own[-1].filename)}, line {own[-1].lineno}" if own else place
        text = " ".join(f"{type(fault).__name__}: {fault}".split())
        raise TargetError(f"{place} failed: {text[:300]} ({where})") from None


def _checked(found: Any, place: str) -> tuple[Any, Any]:
    import torch

    made = found
    if not isinstance(found, torch.nn.Module) and callable(found):
        made = _run(found, place)
    if isinstance(made, torch.nn.Module):
        raise TargetError(f"{place} is a model without inputs; {_HOW}")
    if not isinstance(made, (tuple, list)) or len(made) != 2 or not isinstance(made[0], torch.nn.Module):
        raise TargetError(f"{place} gave {_described(made)}; {_HOW}")
    return made[0], made[1]


def _described(made: Any) -> str:
    if isinstance(made, (tuple, list)):
        return f"a {type(made).__name__} of {', '.join(type(part).__name__ for part in made) or 'nothing'}"
    return f"{type(made).__name__!r}"
