"""Python runs this before the program, where `energyprof run --layers` has put its folder on PYTHONPATH.

It takes itself off the path, gives way to a sitecustomize of the user's own, and waits for the program to
import torch. Whatever goes wrong here, the program runs as it would.
"""

import importlib
import os
import sys


def _give_way() -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != here]
    ours = sys.modules.pop("sitecustomize", None)
    try:
        importlib.import_module("sitecustomize")  # the user's
    except ImportError as fault:
        if fault.name != "sitecustomize":
            raise
    finally:
        if ours is not None:
            sys.modules.setdefault("sitecustomize", ours)


def _wait_for_torch() -> None:
    arguments = " ".join(getattr(sys, "orig_argv", ()))
    if not os.environ.get("ENERGYPROF_RUN") or "multiprocessing" in arguments:
        return  # a worker's calls of modules are no steps
    try:
        from energyprof.layers.arrival import when_torch_is_there
    except ImportError:  # another environment's Python
        return

    def follow() -> None:
        from energyprof.profiler import join_outer

        join_outer()

    when_torch_is_there(follow)


try:
    _wait_for_torch()
finally:
    _give_way()
