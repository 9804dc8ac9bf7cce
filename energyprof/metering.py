"""Streams of readings -> meters: which curve each channel gets, and what must be said about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from energyprof import curves
from energyprof.collectors.base import Channel
from energyprof.curves import EnergyCurve
from energyprof.inclusion import in_totals
from energyprof.reasons import BELOW_RESOLUTION, METERS_DISAGREE, SENSOR_GAP
from energyprof.streams import Stream
from energyprof.tally import Meter
from energyprof.windows import blind_ticks, windows_of

_FAST_REFRESH_NS = 12_000_000
# A modelled machine draws power whether or not it is looked at: the model reaches to the run's ends,
# also where the metering process needed seconds to start on a loaded machine.
_MODEL_REACH_NS = 30_000_000_000
_MODEL_TICK_NS = 1_000_000
_COMPARE_FROM_S = 5.0
_IN_PACKAGES = ("package:", "dram:")


def meters_of(
    streams: Mapping[str, Stream], lost: Mapping[str, str], spans: Sequence[tuple[int, int]]
) -> tuple[list[Meter], set[str]]:
    """The meter of every channel that has joules, and flags that hold for the run.

    Parameters
    ----------
    streams
        All streams by channel name; those with a slash are second streams of the same device.
    lost
        Reasons of the channels that ended in mid-run.
    spans
        The times inside the run: power may change at their ends.
    """
    flags: set[str] = set()
    main = [s for name, s in streams.items() if "/" not in name]
    totals = in_totals([stream.channel for stream in main])
    ends = [t for span in spans for t in span]
    meters = []
    for stream in main:
        name = stream.channel.name
        before_w = _power_before(streams, name, min(ends))
        curve = _curve(stream, before_w)
        if curve is not None and stream.channel.method == "counter":
            curve, disagree = _with_gauges(curve, streams, name, spans)
            if disagree:
                flags.add(METERS_DISAGREE)
            if not _refreshes_fast(stream):
                curve = curves.with_change_points(curve, ends, before_w)
        if curve is not None:
            curve = _with_windows(curve, stream, streams)
        if curve is not None and name in lost:
            curve = replace(curve, reach_ns=0.0, lost_reason=lost[name])
        reason = None if curve is not None else (lost.get(name) or _why_no_curve(stream))
        meters.append(Meter(stream.channel, curve, name in totals, reason))
        flags.update(stream.channel.flags)
    flags.update(lost.values())
    return meters, flags


def _refreshes_fast(stream: Stream) -> bool:
    refresh = stream.channel.refresh_ns
    return not stream.followed and refresh is not None and refresh < _FAST_REFRESH_NS


def _why_no_curve(stream: Stream) -> str:
    return BELOW_RESOLUTION if len(stream.value) else SENSOR_GAP


def _curve(stream: Stream, power_before_w: float | None) -> EnergyCurve | None:
    channel = stream.channel
    if channel.quantity == "utilisation":
        return _modelled_processor(stream, channel)
    if channel.quantity == "power":
        modelled = channel.method == "modelled"
        curve = curves.from_power(
            stream.after_ns,
            stream.value,
            window_ns=channel.window_ns,
            refresh_ns=channel.refresh_ns,
            gain_u95=channel.gain_u95,
            reach_ns=_MODEL_REACH_NS if modelled else None,
        )
        # A model of constant power is read to be stored; what it says does not wait for a tick.
        return replace(curve, tick_ns=_MODEL_TICK_NS) if modelled and curve is not None else curve
    if _refreshes_fast(stream):
        return curves.from_counter(
            stream.before_ns,
            stream.after_ns,
            stream.value,
            wraps_at_uj=channel.wraps_at,
            refresh_ns=channel.refresh_ns or 1_000_000,
            gain_u95=channel.gain_u95,
            most_w=curves.MAX_PACKAGE_W if channel.name.startswith(_IN_PACKAGES) else curves.MAX_DEVICE_W,
        )
    return curves.from_ticking_counter(
        stream.before_ns,
        stream.after_ns,
        stream.value,
        gain_u95=channel.gain_u95,
        tick_ns=channel.refresh_ns,
        power_before_w=power_before_w,
    )


def _modelled_processor(stream: Stream, channel: Channel) -> EnergyCurve | None:
    device = channel.device
    load, share = device["curve_load"], device["curve_tdp_share"]
    assert isinstance(load, Sequence)
    assert isinstance(share, Sequence)
    return curves.from_utilisation(
        stream.after_ns,
        stream.value,
        cpus=int(str(device["cpus"])),
        tdp_w=float(str(device["tdp_w"])),
        load=[float(x) for x in load],
        share_of_tdp=[float(x) for x in share],
        gain_u95=channel.gain_u95,
        reach_ns=_MODEL_REACH_NS,
    )


def _with_gauges(
    curve: EnergyCurve, streams: Mapping[str, Stream], name: str, spans: Sequence[tuple[int, int]]
) -> tuple[EnergyCurve, bool]:
    """A counter's curve with what the power gauges of the same device add, and whether they contradict it."""
    instant, average = streams.get(f"{name}/instant"), streams.get(f"{name}/average")
    gauge = instant if instant is not None and len(instant.value) else average
    if gauge is None or len(gauge.value) < 2:
        return curves.with_power_range(curve, np.zeros(0, np.int64)), False
    curve = curves.with_power_range(curve, gauge.value)
    shape = curves.from_power(
        gauge.after_ns, gauge.value, window_ns=gauge.channel.window_ns, refresh_ns=gauge.channel.refresh_ns
    )
    if shape is None:
        return curve, False
    if not streams[name].followed:  # read rarely: between its ticks only the gauge knows
        curve = curves.with_shape(curve, shape)
    return curve, _disagree(curve, shape, spans)


def _with_windows(curve: EnergyCurve, stream: Stream, streams: Mapping[str, Stream]) -> EnergyCurve:
    """With what a gauge saw of parts of ticks: all there is of short regions where no counter is followed."""
    gauge = streams.get(f"{stream.channel.name}/instant", stream)
    if gauge.channel.quantity != "power" or not gauge.followed:
        return curve
    channel = gauge.channel
    windows = windows_of(gauge.before_ns, gauge.after_ns, gauge.value, channel.window_ns, channel.refresh_ns)
    if windows is None:
        return curve
    return replace(curve, windows=windows, ticks=curve.ticks or blind_ticks(windows))


def _disagree(counter: EnergyCurve, gauge: EnergyCurve, spans: Sequence[tuple[int, int]]) -> bool:
    """Two sensors of one board, over the time both saw: further apart than gain and sampling allow?"""
    begin = max(min(b for b, _ in spans), int(counter.t_ns[0]), int(gauge.t_ns[0]))
    end = min(max(e for _, e in spans), int(counter.t_ns[-1]), int(gauge.t_ns[-1]))
    if (end - begin) / 1e9 < _COMPARE_FROM_S:
        return False
    at = np.array([begin]), np.array([end])
    one, other = curves.joules(counter, *at), curves.joules(gauge, *at)
    if not (one.known.all() and other.known.all()):
        return False
    allowed = np.hypot(one.u_random_j[0], other.u_random_j[0]) + counter.gain_u95 * one.energy_j[0]
    return bool(abs(one.energy_j[0] - other.energy_j[0]) > allowed)


def _power_before(streams: Mapping[str, Stream], name: str, t_ns: int) -> float | None:
    """The last mean power that a gauge reported before the run began, in watts."""
    for suffix in ("average", "instant"):
        gauge = streams.get(f"{name}/{suffix}")
        if gauge is not None:
            earlier = np.flatnonzero(gauge.after_ns <= t_ns)
            if len(earlier):
                return float(gauge.value[earlier[-1]]) / 1e3
    return None
