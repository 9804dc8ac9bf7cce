"""What a gauge's readings speak of: the windows behind them, from the reads around each change."""

from __future__ import annotations

import numpy as np
import pytest

from energyprof.windows import blind_ticks, windows_of

REFRESH, WINDOW = 100_300_000, 25_000_000


def readings(
    chance: np.random.Generator, seconds: float = 10.0, margin_ns: int = 3_000_000
) -> tuple[np.ndarray, ...]:
    """A gauge refreshed every 100.3 ms shows the refresh's number in watts; read just before and after each."""
    refreshed = 40_000_000 + np.arange(int(seconds * 1e9 / REFRESH)) * REFRESH
    wobble = chance.integers(0, margin_ns // 2, (len(refreshed), 2))
    at = np.sort(np.concatenate((refreshed - margin_ns + wobble[:, 0], refreshed + margin_ns - wobble[:, 1])))
    shown = 1000 * np.searchsorted(refreshed, at, side="right")
    return at - 50_000, at, shown, refreshed


def test_each_refresh_ends_a_window_that_is_known_to_a_millisecond_or_so() -> None:
    before, after, power, refreshed = readings(np.random.default_rng(1))
    found = windows_of(before, after, power, WINDOW, REFRESH)
    assert found is not None
    number = np.round(found.energy_j / found.window_s).astype(int)
    off_s = (found.end_ns - refreshed[number - 1]) / 1e9
    assert np.abs(off_s).max() < 2e-3
    assert np.all(found.sd_s < 2e-3)
    assert np.all((-off_s <= found.high_s) & (off_s <= found.low_s))
    assert found.end_ns - found.begin_ns == pytest.approx(WINDOW)


def test_a_refresh_that_was_not_caught_closely_is_left_out() -> None:
    before, after, power, _ = readings(np.random.default_rng(2))
    kept = np.ones(len(after), bool)
    kept[40:43] = False
    found = windows_of(before[kept], after[kept], power[kept], WINDOW, REFRESH)
    assert found is not None
    assert np.all(found.low_s + found.high_s < 7e-3)


@pytest.mark.parametrize(
    "change", [{"window_ns": None}, {"window_ns": 1_000_000_000}, {"power": 250_000}, {"every": 17}]
)
def test_without_known_windows_or_close_reads_there_are_none(change: dict[str, int | None]) -> None:
    before, after, power, _ = readings(np.random.default_rng(3))
    if "power" in change:
        power = np.full(len(power), change["power"])
    step = change.get("every") or 1
    window = change.get("window_ns", WINDOW)
    assert windows_of(before[::step], after[::step], power[::step], window, REFRESH) is None


def test_ticks_of_a_gauge_alone_cut_the_time_and_count_nothing() -> None:
    before, after, power, _ = readings(np.random.default_rng(4))
    found = windows_of(before, after, power, WINDOW, REFRESH)
    assert found is not None
    ticks = blind_ticks(found)
    assert not ticks.counted
    assert len(ticks.gain_j) == len(found.end_ns) - 1
    assert not ticks.between(3, 9).counted
