"""What a run's tables hold, row by row: channels, regions, steps, readings (see `schema`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from energyprof import store
from energyprof.apportion import Solved
from energyprof.attribution import KindRow, Steps
from energyprof.curves import EnergyCurve
from energyprof.edges import jitter_s
from energyprof.intervals import beside
from energyprof.reasons import LAYERS_TIMED
from energyprof.runlog import RunLog
from energyprof.streams import Stream
from energyprof.tally import TOTAL, Figure, Meter


def figure_columns(figure: Figure) -> dict[str, Any]:
    known = figure.energy_j is not None
    return {
        "energy_j": figure.energy_j,
        "u95_j": figure.u95_j,
        "u_random_j": figure.u_random_j if known else None,
        "u_gain_j": figure.u_gain_j if known else None,
        "u_tick_j": figure.u_tick_j if known else None,
        "u_sampling_j": figure.u_sampling_j if known else None,
        "u_regression_j": figure.u_regression_j if known else None,
        "u_model_j": figure.u_model_j if known else None,
        "method": figure.method,
        "reason": figure.reason,
    }


def channel_rows(
    meters: Sequence[Meter], figures: dict[str, Figure], log: RunLog, solved: Mapping[str, Solved]
) -> Iterator[dict[str, Any]]:
    for meter in meters:
        channel = meter.channel
        whole, found = figures[channel.name].energy_j, solved.get(channel.name, Solved())
        once = sum(len(process.spans) for process in log.members) == 1
        yield {
            "channel": channel.name,
            **figure_columns(figures[channel.name]),
            "in_total": meter.in_total,
            "scope": channel.scope,
            "parent": channel.parent,
            "gain_u95": channel.gain_u95,
            "gain_source": channel.gain_source,
            "tick_ms": meter.curve.tick_ns / 1e6 if meter.curve else None,
            **tick_columns(meter.curve),
            "lag_ms": None if found.lag_s is None else 1e3 * found.lag_s,
            "u95_lag_ms": None if found.lag_sd_s is None else 1.96e3 * found.lag_sd_s,
            "call_noise": found.call_noise,
            "closure": found.inside_j / whole - 1 if found.inside_j is not None and whole and once else None,
            "readings": len(log.streams[channel.name].value),
            "refresh_ms": channel.refresh_ns and channel.refresh_ns / 1e6,
            "wraps_at": channel.wraps_at,
            "device": json.dumps(dict(channel.device)),
            "flags": ",".join(channel.flags),
        }


def tick_columns(curve: EnergyCurve | None) -> dict[str, Any]:
    ticks = None if curve is None else curve.ticks
    if curve is None or ticks is None or len(ticks.at_ns) == 0:
        return {}
    jitter = jitter_s(ticks)
    return {
        "tick_jitter_ms": None if jitter is None else 1e3 * jitter,
        "first_tick_ns": int(ticks.at_ns[0]),
        "window_ms": None if curve.windows is None else 1e3 * curve.windows.window_s,
    }


def region_rows(rows: Sequence[KindRow], rank: int) -> Iterator[dict[str, Any]]:
    for row in rows:
        if row.kind.rank != rank:
            continue
        for channel, figure in row.figures.items():
            yield {
                "rank": rank,
                "row_kind": "region",
                "region": "/".join(row.kind.path),
                "depth": len(row.kind.path) - 1,
                "channel": channel,
                "calls": row.calls,
                "duration_s": row.duration_s,
                **figure_columns(figure),
                "self_j": row.self_j[channel],
                "flags": ",".join(row.flags),
            }


def step_columns(keys: dict[str, str], steps: Steps, apart: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """A row a step, as arrays: a run may have millions."""
    followed = beside(steps.begin_ns, steps.end_ns, apart)
    unknown = ~steps.joules.known
    return {
        **keys,
        "rank": steps.kind.rank,
        "row_kind": "step",
        "region": "/".join(steps.kind.path),
        "depth": len(steps.kind.path) - 1,
        "channel": TOTAL,
        "step": np.arange(len(unknown)),
        "begin_ns": steps.begin_ns,
        "calls": 1,
        "duration_s": (steps.end_ns - steps.begin_ns) / 1e9,
        "energy_j": pa.array(steps.joules.energy_j, mask=unknown),
        "u95_j": pa.array(steps.u95_j, mask=unknown),
        "u_random_j": pa.array(steps.joules.u_random_j, mask=unknown),
        "method": steps.method,
        "flags": pa.array(np.where(followed, LAYERS_TIMED, "")),
        "reason": pa.array(np.where(unknown, steps.reason, ""), mask=~unknown),
    }


def samples(keys: dict[str, str], streams: Iterable[Stream]) -> Iterator[Any]:
    """All readings, in pieces, each made when it is written: a day has millions."""
    yield []
    for stream in streams:
        for first in range(0, len(stream.value), store.ROWS_AT_ONCE):
            piece = slice(first, first + store.ROWS_AT_ONCE)
            yield {
                **keys,
                "t_ns": stream.after_ns[piece],
                "took_ns": stream.after_ns[piece] - stream.before_ns[piece],
                "channel": stream.channel.name,
                "quantity": stream.channel.quantity,
                "value": stream.value[piece],
            }
