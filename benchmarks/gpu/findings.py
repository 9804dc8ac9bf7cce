"""From a part's readings to its findings: the sensors under a square wave, the counter beside the power."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from analyse import Edges, Floats, Ints, edges, fit_sensor, integral_j, refresh
from poll import Arrays

SHORT_WINDOWS_MS = np.array(
    [2.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 65.0, 80.0, 100.0, 130.0, 200.0]
)
LONG_WINDOWS_MS = np.array(
    [25.0, 50.0, 100.0, 200.0, 400.0, 600.0, 800.0, 900.0, 1000.0, 1100.0, 1300.0, 1600.0]
)


def _power_edges(got: Arrays, name: str) -> Edges:
    return edges(got["middle_ns"], got["after_ns"], got[f"{name}_mw"])


def _own_stamps(got: Arrays, name: str) -> dict[str, Any]:
    """What the driver's timestamps say: their spacing, and their age when they are read."""
    stamps, first = np.unique(got[f"{name}_us"], return_index=True)
    if len(stamps) < 5 or stamps[0] <= 0:
        return {"stamps": len(stamps)}
    offset = float(np.mean(got["wall_minus_monotonic_ns"]))
    age_ns = got["after_ns"][first] - (stamps * 1e3 - offset)
    return {
        "stamps": len(stamps),
        "spacing_median_ms": round(float(np.median(np.diff(stamps))) / 1e3, 3),
        "age_median_ms": round(float(np.median(age_ns)) / 1e6, 3),
    }


def square_wave(got: Arrays, marks: list[dict[str, Any]]) -> dict[str, Any]:
    """Refresh and jitter of each meter, then window and lag: over all patterns, and over some alone."""
    counter = edges(got["before_ns"], got["middle_ns"], got["counter_mj"])
    instant, average = _power_edges(got, "instant"), _power_edges(got, "average")
    rounds = np.diff(got["before_ns"]) / 1e6
    read_us = (got["middle_ns"] - got["before_ns"]) / 1e3
    found: dict[str, Any] = {
        "rounds": len(got["before_ns"]),
        "round_median_ms": round(float(np.median(rounds)), 3),
        "round_p99_ms": round(float(np.percentile(rounds, 99)), 3),
        "counter_read_under_load_us": [round(float(np.percentile(read_us, q)), 1) for q in (50, 99)],
        "counter": refresh(counter),
        "counter_field_differs": int(np.sum(got["field_counter_mj"] < got["counter_mj"])),
        "instant": refresh(instant) | {"driver": _own_stamps(got, "instant")},
        "average": refresh(average) | {"driver": _own_stamps(got, "average")},
        "usage_equals": _usage_equals(got),
    }
    for which in ("all", "1 s steps", "random", "30+45 ms"):
        mine = [row for row in marks if which in ("all", row["pattern"])]
        if len(mine) < 2:
            continue
        on = np.array([row["on_ns"] for row in mine])
        off = np.array([row["off_ns"] for row in mine])
        found[f"fit over {which}"] = {
            "counter": fit_sensor(counter.t_ns, counter.new * 1.0, on, off, None),
            "instant": fit_sensor(instant.t_ns, instant.new * 1.0, on, off, SHORT_WINDOWS_MS),
            "average": fit_sensor(average.t_ns, average.new * 1.0, on, off, LONG_WINDOWS_MS),
            "samples": _fit_samples(got, on, off),
        }
    stamps = np.unique(got["sample_us"])
    found["samples"] = {"count": len(stamps)}
    if len(stamps) > 5:
        gaps_ms = np.diff(stamps) / 1e3
        found["samples"]["spacing_ms"] = [round(float(np.percentile(gaps_ms, q)), 3) for q in (1, 50, 99)]
    return found


def _fit_samples(got: Arrays, on: Ints, off: Ints) -> dict[str, Any]:
    if len(got["sample_us"]) < 20:
        return {"points": len(got["sample_us"])}
    t_ns = got["sample_us"] * 1e3 - float(np.mean(got["wall_minus_monotonic_ns"]))
    return fit_sensor(t_ns, got["sample_mw"] * 1.0, on, off, SHORT_WINDOWS_MS)


def _usage_equals(got: Arrays) -> dict[str, float]:
    """Share of the reads at which the old power call gave the same as each field."""
    asked = got["usage_mw"] >= 0
    return {
        name: round(float(np.mean(got["usage_mw"][asked] == got[f"{name}_mw"][asked])), 3)
        for name in ("instant", "average")
    }


def counter_and_power(got: Arrays, average_window_ms: float) -> list[dict[str, Any]]:
    """A row for each stretch between two brackets: the counter's watts beside those of the power fields.

    Even segments are brackets, polled fast, in which the last tick is found to a millisecond or two; odd ones
    are polled fast or slowly. The average shows the window before it: it is moved back by half.
    """
    segment = got["segment"]
    middle = (got["middle_ns"] + got["after_ns"]) / 2
    average_t: Floats = middle - average_window_ms * 0.5e6
    ends: list[tuple[float, int, float] | None] = []
    for number in range(0, int(segment[-1]) + 1, 2):
        mine = segment == number
        found = edges(got["before_ns"][mine], got["middle_ns"][mine], got["counter_mj"][mine])
        last = len(found.t_ns) - 1
        ends.append(
            (float(found.t_ns[last]), int(found.new[last]), float(found.width_ns[last]))
            if last >= 0
            else None
        )
    rows = []
    for number, (left, right) in enumerate(pairwise(ends)):
        if left is None or right is None:
            continue
        between = segment == 2 * number + 1
        pace_ms = float(np.median(np.diff(got["before_ns"][between]))) / 1e6
        span_s = (right[0] - left[0]) / 1e9
        counter_w = (right[1] - left[1]) / 1e3 / span_s
        row = {
            "read_every_ms": round(pace_ms, 2),
            "reads": int(between.sum()),
            "span_s": round(span_s, 4),
            "edges_within_ms": round((left[2] + right[2]) / 2e6, 2),
            "counter_w": round(counter_w, 3),
        }
        for name, t, usable in (("average", average_t, True), ("instant", middle, pace_ms < 20)):
            good = got[f"{name}_mw"] >= 0
            if usable and good.any():
                watts = integral_j(t[good], got[f"{name}_mw"][good] * 1.0, left[0], right[0]) / span_s
                row |= {f"{name}_w": round(watts, 3), f"counter_over_{name}": round(counter_w / watts, 5)}
        rows.append(row)
    return rows


def fast_against_slow(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Does reading fast change the counter? The ratio to the average power, read fast and read at 1 Hz."""
    ratios = {
        name: np.array([row["counter_over_average"] for row in rows if (row["read_every_ms"] < 100) == fast])
        for name, fast in (("fast", True), ("slow", False))
        if all("counter_over_average" in row for row in rows)
    }
    if not ratios or not all(len(one) for one in ratios.values()):
        return {}
    fast, slow = ratios["fast"], ratios["slow"]
    return {
        "counter_over_average_read_fast": round(float(fast.mean()), 5),
        "counter_over_average_read_at_1hz": round(float(slow.mean()), 5),
        "fast_over_slow": round(float(fast.mean() / slow.mean()), 5),
        "spread": round(float(max(np.ptp(fast), np.ptp(slow))), 5),
    }
