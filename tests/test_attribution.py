"""Regions and steps: what is resolved has joules, what is not is null, and the parts add up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyprof import attribution, curves
from energyprof.collectors.base import Channel
from energyprof.intervals import Kind, Marks
from energyprof.reasons import BELOW_RESOLUTION, OVERLAP
from energyprof.tally import Figure, Meter, total_of

S = 1_000_000_000


def meter(name: str = "package:0", watts: float = 50.0, seconds: int = 100, **options) -> Meter:
    at = np.arange(0, seconds * S + 1, S // 10)
    curve = curves.from_counter(at, at, (at / S * watts * 1e6).astype(np.int64), refresh_ns=1)
    return Meter(Channel(name, "energy", "counter", "a package"), curve, options.get("in_total", True))


def marks(rows: list[tuple[int, float, float]], thread: int = 1) -> Marks:
    return Marks(
        np.array([row[0] for row in rows], np.int32),
        np.full(len(rows), thread, np.int64),
        np.array([round(row[1] * S) for row in rows], np.int64),
        np.array([round(row[2] * S) for row in rows], np.int64),
    )


FORWARD = Kind(0, ("forward",), -1, "region")
INNER = Kind(0, ("forward", "attention"), 0, "region")


def rows_of(meters: list[Meter], kinds: list[Kind], these: Marks) -> list[attribution.KindRow]:
    return attribution.kind_rows(meters, kinds, attribution.kind_sums(meters, kinds, these))


def test_a_region_has_the_energy_of_all_its_calls() -> None:
    (row,) = rows_of([meter()], [FORWARD], marks([(0, 1, 2), (0, 5, 7)]))
    assert row.calls == 2
    assert row.duration_s == pytest.approx(3)
    assert row.figures["package:0"].energy_j == pytest.approx(150)
    assert row.figures["total"].energy_j == pytest.approx(150)


def test_a_region_shorter_than_the_tick_is_null_with_a_reason() -> None:
    (row,) = rows_of([meter()], [FORWARD], marks([(0, k, k + 0.03) for k in range(50)]))
    assert row.figures["total"].energy_j is None
    assert row.figures["total"].u95_j is None
    assert row.figures["total"].reason == BELOW_RESOLUTION


def test_a_few_short_calls_do_not_spoil_a_long_region() -> None:
    calls = [(0, 1, 31), *((0, 40 + k, 40 + k + 0.01) for k in range(10))]
    (row,) = rows_of([meter()], [FORWARD], marks(calls))
    assert row.figures["total"].energy_j == pytest.approx(50 * 30.1, rel=1e-3)


def test_the_energy_of_a_region_outside_its_parts_is_its_own() -> None:
    rows = rows_of([meter()], [FORWARD, INNER], marks([(0, 1, 11), (1, 2, 5)]))
    own = {row.kind.path[-1]: row.self_j["total"] for row in rows}
    assert own == {"forward": pytest.approx(350), "attention": pytest.approx(150)}


def test_a_total_of_which_a_part_is_unknown_is_unknown() -> None:
    known, unknown = Figure(10.0, "counter"), Figure(None, "counter", "device_lost")
    total = total_of([known, unknown])
    assert total.energy_j is None
    assert total.reason == "device_lost"


def test_uncertainties_add_in_quadrature_and_gain_stays_apart() -> None:
    total = total_of([Figure(10, "counter", None, 3, 0.5), Figure(5, "modelled", None, 4, 1.2)])
    assert total.u_random_j == pytest.approx(5)
    assert total.u_gain_j == pytest.approx(1.3)
    assert total.u95_j == pytest.approx(np.hypot(5, 1.3))
    assert total.method == "counter+modelled"


def test_calls_of_one_region_at_the_same_time_are_flagged() -> None:
    (row,) = rows_of([meter()], [FORWARD], marks([(0, 1, 3), (0, 2, 4)]))
    assert row.flags == (OVERLAP,)


def test_calls_locked_to_the_tick_are_less_certain_than_calls_at_all_phases() -> None:
    locked = marks([(0, k, k + 0.35) for k in range(40)])
    spread = marks([(0, k * 1.0137, k * 1.0137 + 0.35) for k in range(40)])
    noisy = meter()
    assert noisy.curve is not None
    noisy = Meter(noisy.channel, curves.replace(noisy.curve, low_w=0.0, high_w=100.0), True)
    u = [rows_of([noisy], [FORWARD], m)[0].figures["total"].u_random_j for m in (locked, spread)]
    assert u[0] == 0 or u[0] > u[1]


def test_steps_have_joules_where_they_are_long_enough() -> None:
    step = Kind(0, ("step",), -1, "step")
    (table,) = attribution.step_rows([meter()], [step], marks([(0, 1, 2), (0, 2, 2.02), (0, 3, 5)]))
    assert table.joules.known.tolist() == [True, False, True]
    assert table.joules.energy_j.tolist() == pytest.approx([50, 0, 100])


def nested(draw: st.DrawFn, begin: int, end: int, depth: int) -> list[tuple[int, int, int]]:
    """Calls inside [begin, end] that nest properly: rows of depth, begin, end."""
    if depth > 3 or end - begin < 2:
        return []
    cuts = sorted(draw(st.lists(st.integers(begin, end), min_size=0, max_size=6)))
    rows = []
    for low, high in zip(cuts[::2], cuts[1::2]):
        rows.append((depth, low, high))
        rows += nested(draw, low, high, depth + 1)
    return rows


@st.composite
def trees(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    return nested(draw, 0, 100 * S, 0)


@given(trees(), st.lists(st.integers(1, 500_000_000), min_size=3, max_size=30))
def test_the_parts_of_a_thread_add_up_to_the_whole_for_any_nesting(
    rows: list[tuple[int, int, int]], increments: list[int]
) -> None:
    at = np.linspace(0, 100 * S, len(increments) + 1).astype(np.int64)
    value = np.concatenate(([0], np.cumsum(increments))).astype(np.int64)
    curve = curves.from_counter(at, at, value, refresh_ns=1)
    assert curve is not None

    def energy(depth: int) -> float:
        chosen = [(b, e) for d, b, e in rows if d == depth]
        if not chosen:
            return 0.0
        begin, end = (np.array(side, np.int64) for side in zip(*chosen))
        return float(curves.joules(curve, begin, end).energy_j.sum())

    whole = float(curves.joules(curve, at[:1], at[-1:]).energy_j[0])
    by_depth = [energy(depth) for depth in range(5)]
    outside = whole - by_depth[0]
    own = [a - b for a, b in zip(by_depth, [*by_depth[1:], 0.0])]
    assert outside >= -1e-6
    assert all(part >= -1e-6 for part in own)
    assert outside + sum(own) == pytest.approx(whole, rel=1e-9, abs=1e-6)
    figures = [Figure(part, "counter") for part in by_depth]
    exclusive = [
        attribution.exclusive(a, [b]) for a, b in zip(figures, [*figures[1:], Figure(0.0, "counter")])
    ]
    assert sum(part or 0.0 for part in exclusive) + outside == pytest.approx(whole, rel=1e-9, abs=1e-6)


def test_a_gpu_has_its_own_times_and_every_other_meter_the_hosts() -> None:
    host = marks([(0, 1, 2), (0, 5, 7)])
    behind = replace(host, device={"gpu:0": (host.begin_ns + S, host.end_ns + 3 * S)})
    (row,) = rows_of([meter(), meter("gpu:0")], [FORWARD], behind)
    assert row.figures["package:0"].energy_j == pytest.approx(150)
    assert row.figures["gpu:0"].energy_j == pytest.approx(350)
    assert row.duration_s == pytest.approx(3)
    (table,) = attribution.step_rows([meter(), meter("gpu:0")], [replace(FORWARD, row_kind="step")], behind)
    assert table.joules.energy_j.tolist() == pytest.approx([200, 300])


def test_a_region_that_a_gpu_had_no_work_for_drew_next_to_nothing_there() -> None:
    host = marks([(0, k, k + 0.9) for k in range(50)])
    short = host.begin_ns + S // 10_000
    waited = replace(host, device={"gpu:0": (host.begin_ns, short)})
    (row,) = rows_of([meter("gpu:0")], [FORWARD], waited)
    assert row.figures["gpu:0"].energy_j == pytest.approx(50 * 50 * 1e-4)
    assert row.figures["total"].reason is None
