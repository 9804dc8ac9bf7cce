"""Power over time from stored readings, and how it travels in a page.

The readings become curves where a run was sealed (`metering`), and the curves watts on a regular grid as fine as
the meter ticks: each value is the mean power of its bin, so that a sum of bins is the curve on that stretch.
In a page the bins are integers whose running sum is rounded, not they themselves (a sum of any stretch is then off
by one quantum at most), as differences of 16 bits, deflated, in base64.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energyprof import curves
from energyprof.arrow_values import having, whole_numbers
from energyprof.collectors.base import Channel
from energyprof.metering import meters_of
from energyprof.streams import Stream
from energyprof.tally import Meter

Row = Mapping[str, Any]
Floats = NDArray[np.float64]

_FAST_NS = 1_000_000  # RAPL, as runs of older releases do not say
_FOLLOWED_NS = 500_000_000  # a counter that is read more often than this was followed tick by tick
_WINDOW_NS = {"instant": 25_000_000, "average": 1_000_000_000}  # NVML fields 186 and 185 (docs/meters.md)
_LOST = -32768
_MOST = 32000
_LEVELS = 4000  # of a series' peak: several to a pixel, and small when deflated


@dataclass(frozen=True)
class Series:
    """Mean power of one channel in bins of one width; nan where it is not known.

    Attributes
    ----------
    channel
        gpu:0, package:0 …
    begin_s, bin_s
        Start of the first bin after the start of the run, and their width.
    watts
        Shape (n,).
    in_total
        Whether the channel counts in the run's energy.
    modelled
        Whether a model stands in for a meter.
    """

    channel: str
    begin_s: float
    bin_s: float
    watts: Floats
    in_total: bool = True
    modelled: bool = False

    @property
    def end_s(self) -> float:
        return self.begin_s + self.bin_s * len(self.watts)


def series_of(run: Row, channels: Sequence[Row], samples: Any, most: int = 10_000) -> list[Series]:
    """The power of every channel of a run that has readings, those in the total first.

    Parameters
    ----------
    run, channels
        The rows of the dataset.
    samples
        The run's part of the samples table (pyarrow), of one node; None where it is missing.
    most
        Bins a channel; a longer run gets wider bins.
    """
    if samples is None or run["t0_ns"] is None or (run["t1_ns"] or 0) <= run["t0_ns"]:
        return []
    begin, end = int(run["t0_ns"]), int(run["t1_ns"])
    streams = _streams(channels, samples)
    if not any(name in streams for name in (c["channel"] for c in channels)):
        return []
    counted = {c["channel"]: bool(c["in_total"]) for c in channels}
    meters, _ = meters_of(streams, {}, [(begin, end)])
    found = []
    for meter, bins in zip(meters, _bins(meters, end - begin, most)):
        if meter.curve is None:
            continue
        edges = np.linspace(begin, end, bins + 1).astype(np.int64)
        known = curves.joules(meter.curve, edges[:-1], edges[1:])
        width = (end - begin) / 1e9 / bins
        watts = np.where(known.known, known.energy_j / width, np.nan)
        name = meter.channel.name
        if not np.isnan(watts).all():
            modelled = meter.channel.method == "modelled"
            found.append(Series(name, 0.0, width, watts, counted.get(name, True), modelled))
    return sorted(found, key=lambda one: (not one.in_total, -float(np.nanmean(one.watts))))


def _bins(meters: Sequence[Meter], lasted_ns: int, most: int) -> list[int]:
    """How many bins each meter has: one a tick. A model has no tick of its own: its bins are as many as its readings,
    or as the finest of the others has, where its power is constant and hardly read."""
    known = [meter.curve for meter in meters]
    ticks = [1 if curve is None else max(1, round(lasted_ns / max(curve.tick_ns, 1))) for curve in known]
    read = [
        min(tick, len(curve.t_ns) - 1) if curve is not None and meter.channel.method == "modelled" else tick
        for meter, curve, tick in zip(meters, known, ticks)
    ]
    finest = max(read, default=1)
    return [min(most, tick, finest if few < tick else few) for tick, few in zip(ticks, read)]


def _streams(channels: Sequence[Row], samples: Any) -> dict[str, Stream]:
    """The readings by channel, as sealing had them."""
    streams: dict[str, Stream] = {}
    names = {c["channel"]: c for c in channels}
    for name in samples.column("channel").unique().to_pylist():
        device, _, second = name.partition("/")
        if name not in names and second not in _WINDOW_NS:
            continue
        mine = having(samples, "channel", name)
        known = mine.select(["t_ns", "took_ns", "value"]).drop_null()
        after, took, value = (whole_numbers(column) for column in known.columns)
        if len(after) < 2:
            continue
        quantity = str(mine.column("quantity")[0].as_py())
        channel = _channel(name, quantity, names.get(device), second)
        order = np.argsort(after, kind="stable")
        after, before, value = after[order], (after - took)[order], value[order]
        followed = float(np.median(np.diff(after))) < _FOLLOWED_NS
        streams[name] = Stream(channel, followed, before, after, value)
    return streams


def _channel(name: str, quantity: Any, row: Row | None, second: str) -> Channel:
    facts = row or {}
    refresh = facts.get("refresh_ms")
    refresh_ns = None if refresh is None else round(refresh * 1e6)
    if refresh_ns is None and name.startswith(("package:", "dram:", "psys:", "core:", "uncore:")):
        refresh_ns = _FAST_NS
    if second:
        window = _WINDOW_NS[second]
        return Channel(name, quantity, "integrated", "", window_ns=window, refresh_ns=100_000_000)
    method = str(facts.get("method") or "").split("+")[0]
    method = method if method in ("counter", "integrated", "modelled", "allocated") else _METHOD[quantity]
    return Channel(
        name,
        quantity,
        method,  # type: ignore[arg-type]
        str(facts.get("scope") or ""),
        parent=facts.get("parent"),
        wraps_at=facts.get("wraps_at"),
        refresh_ns=refresh_ns,
        gain_u95=facts.get("gain_u95") or 0.0,
        device=json.loads(facts.get("device") or "{}"),
    )


_METHOD = {"energy": "counter", "power": "integrated", "utilisation": "modelled"}


def cumulative(one: Series, at_s: Floats) -> Floats:
    """Joules from the begin of a series to these times, in seconds after the run's begin; bins that are not known
    add nothing."""
    grid = one.begin_s + one.bin_s * np.arange(len(one.watts) + 1)
    summed = np.concatenate(([0.0], np.cumsum(np.nan_to_num(one.watts) * one.bin_s)))
    joules: Floats = np.interp(at_s, grid, summed)
    return joules


def extremes(one: Series, most: int) -> tuple[Floats, Floats]:
    """The points of a line that looks like all of them: of each of `most` stretches the least and the greatest
    value, in their order. Seconds and watts."""
    middle: Floats = one.begin_s + one.bin_s * (np.arange(len(one.watts), dtype=np.float64) + 0.5)
    if len(one.watts) <= 2 * most:
        return middle, one.watts
    chosen: list[int] = []
    for part in np.array_split(np.arange(len(one.watts)), most):
        values = one.watts[part]
        if np.isnan(values).all():
            chosen.append(int(part[0]))
            continue
        chosen += sorted({int(part[np.nanargmin(values)]), int(part[np.nanargmax(values)])})
    return middle[chosen], one.watts[chosen]


def extremes_grid(one: Series, most: int) -> Series:
    """A series of at most twice so many bins that looks like the whole one: each pair of bins has the least and
    the greatest value of its stretch. For drawing alone: its sum means nothing."""
    if len(one.watts) <= 2 * most:
        return one
    pairs = np.full((most, 2), np.nan)
    for place, part in enumerate(np.array_split(one.watts, most)):
        if not np.isnan(part).all():
            ends = sorted((int(np.nanargmin(part)), int(np.nanargmax(part))))
            pairs[place] = part[ends]
    return replace(one, bin_s=(one.end_s - one.begin_s) / (2 * most), watts=pairs.ravel())


def encode(one: Series) -> dict[str, Any]:
    """What a page holds of a series: text and numbers, for JSON. `decode` is what the page's script does."""
    known = np.isfinite(one.watts)
    peak = float(one.watts[known].max()) if known.any() else 1.0
    quantum = peak / _LEVELS if peak > 0 else 1.0
    exact = np.where(known, one.watts, 0.0) / quantum
    steps = np.diff(np.concatenate(([0.0], np.round(np.cumsum(exact)))))
    values = np.where(known, np.clip(steps, -_MOST, _MOST), _LOST).astype(np.int64)
    deltas = np.diff(np.concatenate(([0], values))).astype(np.int16)  # modulo 2^16: the sum comes out again
    packed = zlib.compress(deltas.astype("<i2").tobytes(), 9)
    return {
        "channel": one.channel,
        "begin_s": round(one.begin_s, 6),
        "bin_s": one.bin_s,
        "quantum_w": quantum,
        "in_total": one.in_total,
        "n": len(values),
        "data": base64.b64encode(packed).decode("ascii"),
    }


def decode(packed: Mapping[str, Any]) -> Floats:
    """The watts of an encoded series; nan where they are not known."""
    deltas = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), "<i2")
    values = np.cumsum(deltas.astype(np.int64)).astype(np.int16)
    return np.where(values == _LOST, np.nan, values * packed["quantum_w"])
