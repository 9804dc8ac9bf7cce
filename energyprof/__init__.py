"""Energy and carbon of PyTorch training and inference: joules with a method, an interval and a reason.

>>> import energyprof
>>> with energyprof.profile("finetune", country="FRA") as run:
...     for batch in run.steps(loader):
...         with run.region("forward"):
...             loss = model(batch)
>>> run.result.energy_j, run.result.u95_j

Names load on first use (PEP 562): importing energyprof costs a few milliseconds and loads no numpy, no
pandas and no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from energyprof.layers.schedule import Schedule as Schedule
    from energyprof.layerwise import replay_layers as replay_layers
    from energyprof.profiler import Run as Run
    from energyprof.profiler import profile as profile
    from energyprof.profiler import region as region
    from energyprof.result import Result as Result
    from energyprof.result import load as load

__version__ = "0.1.0"

_HOMES = {
    "profile": "energyprof.profiler",
    "region": "energyprof.profiler",
    "replay_layers": "energyprof.layerwise",
    "Run": "energyprof.profiler",
    "Schedule": "energyprof.layers.schedule",
    "Result": "energyprof.result",
    "load": "energyprof.result",
    "load_ipython_extension": "energyprof.integrations.ipython",  # %load_ext energyprof
    "unload_ipython_extension": "energyprof.integrations.ipython",
}

__all__ = ["Result", "Run", "Schedule", "__version__", "load", "profile", "region", "replay_layers"]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'energyprof' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
