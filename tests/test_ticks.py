"""The follower learns a counter's tick and then reads twice around each."""

from __future__ import annotations

import numpy as np
import pytest

from energyprof.ticks import EdgeFollower

S = 1_000_000_000


class Counter:
    """A counter that ticks every `period` seconds with jitter, and a clock that follows the reads."""

    def __init__(self, period: float, seed: int, jitter: float = 0.004, seconds: float = 20.0) -> None:
        self._rng = np.random.default_rng(seed)
        ticks = self._rng.uniform(0, period) + period * np.arange(round(seconds / period))
        self.ticks = ticks + self._rng.uniform(0.001, 0.001 + jitter, len(ticks))
        self.now = 0.0

    def follow(self, follower: EdgeFollower, seconds: float) -> tuple[int, list[float]]:
        """Read as told for some seconds; returns the number of reads and the widths of the brackets."""
        end, reads, widths, last = self.now + seconds, 0, [], self.now
        while self.now < end:
            value = int(np.searchsorted(self.ticks, self.now))
            if follower.observe(int(self.now * S), int((self.now + 5e-5) * S), value):
                widths.append(self.now - last)
            last, reads = self.now, reads + 1
            self.now = max(self.now + 1e-4, follower.next_read_ns / S) + self._rng.exponential(2e-4)
        return reads, widths


@pytest.mark.parametrize("period", [0.0203, 0.0997, 0.1003])
def test_after_learning_two_or_three_reads_a_tick_bracket_it_within_a_few_milliseconds(period: float) -> None:
    counter = Counter(period, seed=1, jitter=0.04 * period)
    follower = EdgeFollower(0, seed=1)
    counter.follow(follower, 2)
    assert follower.following
    assert follower.period_ns == pytest.approx(period * S, rel=0.04)
    reads, widths = counter.follow(follower, 6)
    assert len(widths) == pytest.approx(6 / period, abs=3)
    assert reads / len(widths) < 3.5
    assert np.median(widths) < 0.009


@pytest.mark.parametrize(
    ("period", "jitter"), [(0.1003, 0.0), (0.1003, 0.004), (0.0503, 0.004), (0.0203, 0.001)]
)
def test_the_phase_is_kept_for_minutes(period: float, jitter: float) -> None:
    counter = Counter(period, seed=7, jitter=jitter, seconds=130)
    follower = EdgeFollower(0, seed=7)
    counter.follow(follower, 3)
    for _ in range(2):
        reads, widths = counter.follow(follower, 60)
        assert np.mean(np.array(widths) > period / 2) < 0.1
        assert np.median(widths) < 0.006
        assert reads / len(widths) < 2.5
    assert follower.period_ns == pytest.approx(period * S, rel=0.005)


def test_a_counter_that_never_ticks_is_polled_at_leisure() -> None:
    counter = Counter(100.0, seed=2)
    follower = EdgeFollower(0, seed=2)
    counter.follow(follower, 4)
    reads, _ = counter.follow(follower, 5)
    assert reads < 150


def test_a_counter_that_stops_ticking_is_learnt_anew() -> None:
    counter = Counter(0.1003, seed=3)
    counter.ticks = counter.ticks[(counter.ticks < 3) | (counter.ticks > 6)]
    follower = EdgeFollower(0, seed=3)
    counter.follow(follower, 12)
    assert follower.following
    _, widths = counter.follow(follower, 3)
    assert np.median(widths) < 0.012


def test_a_counter_that_ticks_faster_than_it_is_read_is_not_followed() -> None:
    counter = Counter(0.001, seed=4, jitter=0.0)
    follower = EdgeFollower(0, seed=4)
    counter.follow(follower, 2)
    assert not follower.following


@pytest.mark.parametrize("every", [0.7, 2.3, 11.0])
def test_a_gauge_that_changes_now_and_then_is_not_chased(every: float) -> None:
    counter = Counter(0.1003, seed=5)
    shown = counter.ticks[:20]  # a second of work, then a digit that flickers
    later = counter.ticks[20:]
    counter.ticks = np.concatenate((shown, later[:: round(every / 0.1003)]))
    counter.ticks = np.concatenate([counter.ticks + 20 * k for k in range(6)])
    follower = EdgeFollower(0, seed=5)
    reads, _ = counter.follow(follower, 120)
    assert reads / 120 < 60


def test_a_gauge_that_held_still_for_a_while_is_followed_again() -> None:
    counter = Counter(0.1003, seed=6)
    counter.ticks = counter.ticks[(counter.ticks < 3) | (counter.ticks > 9)]
    follower = EdgeFollower(0, seed=6)
    counter.follow(follower, 3.5)
    reads, _ = counter.follow(follower, 5)
    assert reads < 70  # one a period while nothing changes
    counter.follow(follower, 3)
    reads, widths = counter.follow(follower, 4)
    assert np.median(widths) < 0.009
    assert reads / len(widths) < 3.5
