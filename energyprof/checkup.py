"""Open every meter once and say what was found: the facts behind `energyprof doctor`."""

from __future__ import annotations

import os
import platform
from time import monotonic_ns
from typing import Any

import energyprof
from energyprof import surroundings
from energyprof.collectors.base import Context
from energyprof.collectors.registry import discover
from energyprof.helper import roots
from energyprof.meter import Meter


def checkup() -> dict[str, Any]:
    """Channels that can be read, with the cost of one read in microseconds; absences, with remedies.

    `measures` is False where every joule of this machine would be from a model.
    """
    meter = Meter(discover(), Context(environ=os.environ, pid=os.getpid(), **roots()))
    try:
        meter.read_all()  # the first read opens paths in the driver; the second shows the price
        begun = monotonic_ns()
        meter.read_all()
        cost_us = (monotonic_ns() - begun) / 1e3
        channels = [
            {
                "channel": channel.name,
                "quantity": channel.quantity,
                "method": channel.method,
                "scope": channel.scope,
                "gain_u95": channel.gain_u95,
                "gain_source": channel.gain_source,
                "flags": list(channel.flags),
                "device": dict(channel.device),
            }
            for channel in meter.channels
        ]
    finally:
        meter.close()
    return {
        "energyprof": energyprof.__version__,
        "os": platform.platform(),
        "measures": any(channel["method"] in ("counter", "integrated") for channel in channels),
        "read_all_us": round(cost_us, 1),
        "channels": channels,
        "machine": [
            {"topic": topic, "note": note}
            for topic, note in surroundings.notes(os.environ, meter.channels, **roots())
        ],
        "missing": [absence.facts() for absence in meter.missing],
    }
