"""The phases of a run and the progress of its steps: what a page needs to say what a stretch of time cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyprof import store
from energyprof.reports.phases import Phase, bands, phases
from energyprof.reports.progress import progress
from energyprof.reports.series import Series
from energyprof.reports.stored import Calls, Steps, StoredRun
from tests.drawable import gathered
from tests.reports.trained import training


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredRun:
    """A run of 100 s: load 10, train 75 with three epochs, evaluate 15."""
    out = tmp_path_factory.mktemp("phases")
    training(out, 0, seconds=100.0, epochs=3)
    (found,) = gathered(out)
    return found


def calls(region: str, *stretches: tuple[float, float]) -> Calls:
    begin, end = np.array(stretches, float).T
    return Calls(region, region.count("/"), begin, end - begin)


def told(found: list[Phase]) -> list[tuple[str, int]]:
    return [(phase.region, phase.level) for phase in found]


def test_phases_stand_in_the_order_of_time_each_before_those_inside_it(stored: StoredRun) -> None:
    found = phases(stored.calls)
    assert told(found) == [
        ("load", 0),
        ("train", 0),
        ("train/epoch", 1),
        ("train/epoch/validate", 2),
        ("evaluate", 0),
    ]
    assert found[2].begin_s == pytest.approx([10.0, 35.0, 60.0])
    assert found[2].end_s == pytest.approx([32.5, 57.5, 82.5])
    assert [band.name for band in bands(found)] == ["load", "train", "evaluate"]


def test_bands_are_of_the_outermost_level_that_says_when() -> None:
    one = [calls("main", (0.5, 99.0)), calls("main/load", (1.0, 9.0)), calls("main/train", (9.0, 98.0))]
    assert told(phases(one)) == [("main", 0), ("main/load", 1), ("main/train", 1)]
    assert [band.name for band in bands(phases(one))] == ["load", "train"]
    deeper = [
        calls("main", (0.5, 99.0)),
        calls("main/epoch", (1.0, 9.0)),
        calls("main/epoch/save", (8.0, 9.0)),
    ]
    assert [band.name for band in bands(phases(deeper))] == ["main"]
    assert bands([]) == []


def test_what_ran_beside_a_phase_in_another_thread_is_left_out_with_what_is_inside_it() -> None:
    both = [
        calls("train", (10.0, 90.0)), calls("train/save", (40.0, 41.0)),
        calls("fetch", (5.0, 60.0)), calls("fetch/parse", (6.0, 8.0)),
        calls("worker", (1.0, 3.0), (2.0, 4.0)),
    ]  # fmt: skip
    assert told(phases(both)) == [("train", 0), ("train/save", 1)]


def test_a_loop_is_no_phase_and_its_seldom_parts_are_those_of_the_phase_around_it() -> None:
    many = calls("train/step", *((1.0 + n, 1.9 + n) for n in range(60)))
    found = [calls("train", (0.0, 80.0)), many, calls("train/step/save", (30.1, 30.2))]
    assert told(phases(found)) == [("train", 0), ("train/step/save", 1)]
    each = [
        calls(f"p{number}", *((number + 0.02 * n, number + 0.02 * n + 0.01) for n in range(30)))
        for number in range(9)
    ]
    assert len(phases(each)) == 2  # a page has room for 80 calls


def test_steps_whose_layers_were_timed_are_counted_apart(stored: StoredRun, tmp_path: Path) -> None:
    run = training(tmp_path, 0, seconds=10.0, steps=8)
    rows = store.of_run(str(tmp_path), "intervals", run["run_id"]).rows
    numbers = [row["step"] for row in rows if row["row_kind"] == "step"]
    changed = [
        {**row, "flags": "layers_timed" if row["row_kind"] == "step" and row["step"] < 3 else ""}
        for row in rows
    ]
    (path,) = store.files(str(tmp_path), "intervals")
    store.write(path, store.table_of("intervals", changed))
    (found,) = gathered(tmp_path)
    assert len(numbers) == 8
    assert (found.steps.timed, len(found.steps.begin_s)) == (3, 5)
    assert stored.steps.timed == 0


def flat(watts: list[float], bin_s: float = 1.0, name: str = "gpu:0", in_total: bool = True) -> Series:
    return Series(name, 0.0, bin_s, np.array(watts, float), in_total)


def steps(*stretches: tuple[float, float]) -> Steps:
    begin, end = np.array(stretches, float).T
    return Steps(begin, end - begin, np.full(len(begin), np.nan))


def test_steps_and_their_joules_are_counted_in_any_stretch() -> None:
    series = [
        flat([100, 100, 300, 300, 50, 50]),
        flat([10] * 6, name="dram:0"),
        flat([9] * 6, in_total=False),
    ]
    found = progress(steps((0.0, 1.5), (2.0, 3.5), (3.5, 5.0)), series, 6)
    assert found is not None
    assert found.energy is not None
    assert found.count.watts == pytest.approx([1 / 1.5, 0.5 / 1.5, 1 / 1.5, 1 / 1.5, 1 / 1.5, 0])
    assert found.energy.watts == pytest.approx([110, 55, 310, 310, 60, 0])
    coarse = progress(steps((0.0, 1.5), (2.0, 3.5), (3.5, 5.0)), series, 2)
    assert coarse is not None
    assert coarse.energy is not None
    assert coarse.count.watts * 3 == pytest.approx([1 + 1 / 1.5, 2 - 1 / 1.5])
    assert coarse.energy.watts * 3 == pytest.approx([110 + 55 + 310, 310 + 60])


def test_steps_of_two_loops_at_once_count_no_moment_twice() -> None:
    found = progress(steps((0.0, 4.0), (1.0, 3.0), (3.0, 6.0)), [flat([100] * 6)], 6)
    assert found is not None
    assert found.energy is not None
    assert found.count.watts.sum() == pytest.approx(3)
    assert found.energy.watts.sum() == pytest.approx(600)


def test_steps_that_are_shorter_than_a_bin_have_joules_only_where_they_follow_each_other() -> None:
    series = [flat([100.0] * 10)]
    packed = progress(steps(*((n / 10, (n + 1) / 10) for n in range(100))), series, 10)
    apart = progress(steps(*((n / 10, (n + 0.5) / 10) for n in range(100))), series, 10)
    assert packed is not None
    assert apart is not None
    assert packed.energy is not None
    assert packed.energy.watts == pytest.approx([100] * 10)
    assert apart.energy is None
    assert apart.count.watts == pytest.approx([10] * 10)


def test_without_steps_or_without_power_there_is_no_progress(stored: StoredRun) -> None:
    assert progress(steps((0.0, 1.0)), [], 10) is None
    nothing = np.zeros(0)
    assert progress(Steps(nothing, nothing, nothing), stored.series, 10) is None


@given(
    st.lists(st.floats(1e-6, 3.0), min_size=2, max_size=40),
    st.lists(st.one_of(st.floats(0.0, 500.0), st.just(float("nan"))), min_size=1, max_size=50),
    st.integers(1, 60),
)
def test_progress_adds_up_to_all_steps_and_to_no_more_than_all_joules(
    gaps: list[float], watts: list[float], most: int
) -> None:
    times = np.cumsum(gaps)
    pairs = times[: len(times) // 2 * 2].reshape(-1, 2)
    series = [flat(watts, bin_s=(float(times[-1]) + 1.0) / len(watts))]
    found = progress(steps(*map(tuple, pairs)), series, most)
    assert found is not None
    assert float(found.count.watts.sum() * found.count.bin_s) == pytest.approx(len(pairs))
    if found.energy is not None:
        whole = float(np.nansum(series[0].watts) * series[0].bin_s)
        inside = float(found.energy.watts.sum() * found.energy.bin_s)
        assert -1e-6 <= inside <= whole * (1 + 1e-9) + 1e-6
        assert (found.energy.watts >= -1e-6 * max(whole, 1)).all()
