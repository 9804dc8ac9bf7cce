"""Where a run has its electricity from, at its start: what was said, checked before anything is measured, as facts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from energyprof.settings import complaints, site

if TYPE_CHECKING:
    from collections.abc import Callable

    Said = dict[str, Any]
    Warn = Callable[[str], None]


def check(said: Said, warn: Warn) -> None:
    """ValueError where what a call said makes no sense, nor does it at the place that is said elsewhere.

    A provider's PUE and a live source need a place, which the environment or pyproject.toml may name.
    """
    try:
        _checked(said, warn)
        return
    except ValueError:
        elsewhere = site(said).get("country")
        if elsewhere is None or said.get("country") is not None:
            raise
    _checked({**said, "country": elsewhere}, warn)


def facts_of_site(said: Said, warn: Warn) -> Said:
    """What a call said, which was checked, else the environment or pyproject.toml, as facts of the run."""
    _complain(warn)
    told, own = site(said), {name: value for name, value in said.items() if value is not None}
    if not told:
        return {}
    from energyprof.carbon.site import facts_of

    try:
        if told != own:
            _checked(told, warn)
        return facts_of(told)
    except ValueError as fault:
        warn(f"what the environment or pyproject.toml says is left out: {fault}")
        return facts_of(said)


def facts_of_run(said: Said, warn: Warn) -> Said:
    """The same for `energyprof run`, which refuses what makes no sense wherever it was said (ValueError), and asks the
    machine where it stands."""
    from energyprof.carbon import here
    from energyprof.carbon.site import HERE, facts_of

    _complain(warn)
    told = site(said)
    if told:
        _checked(told, warn)
    return {**facts_of(told), **({} if "country" in told else {HERE: here.where()})}


def _checked(said: Said, warn: Warn) -> None:
    from time import time

    from energyprof.carbon.site import at_start, site_of

    doubt = at_start(site_of(said), time())
    if doubt:
        warn(doubt)


def _complain(warn: Warn) -> None:
    for complaint in complaints():
        warn(complaint)
