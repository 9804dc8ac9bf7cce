"""When to read a counter that ticks slowly, so that each tick is caught between two close reads.

An NVML energy counter changes every 20–100 ms at a phase that nobody tells. Reading it at a fixed pace
says when it ticked only to within that pace, and reading it all the time costs the driver. So: first
dithered polls until the period is known, then two reads a tick, one just before the expected edge and
one just after. No clock and no hardware here: the meter says what it read and asks when to read next.
"""

from __future__ import annotations

import random
from collections import deque

_NS = 1_000_000_000
# Learning reads every 3–6 ms: an edge is then known to some 5 ms, and ten edges give the period to 1 ms.
_DITHER_NS = (3_000_000, 6_000_000)
_LEARN_EDGES = 10
# Who shows few edges in so long, or does not let its period be learnt in so long, is polled at leisure for a
# while, longer each time: a gauge of steady power changes its last digit now and then, and tells nothing.
_LEARN_LIMIT_NS, _LEARN_LONGEST_NS, _FEW_EDGES = 3 * _NS, 10 * _NS, 4
_REST_NS, _LONGEST_REST_NS = 6 * _NS, 60 * _NS
_LEISURE_NS = 50_000_000
# A late edge is waited for with close reads for this share of a period, once; without an edge for so many
# periods, one read a period is enough.
_LATE, _PATIENCE_PERIODS = 0.3, 3
_FAST_TICK_NS = 12_000_000  # below this every read finds a new value: there is no edge to follow
_RETRY_NS = 1_500_000
_WIDE_ALLOWED = 5  # edges in a row that nobody stood ready for, before all is learnt anew
_REMEMBERED_EDGES = 40  # a straight line through so many tells the next one to a third of their jitter
_HELD_UP_NS = 2_000_000  # a read that comes so much later than planned says nothing of when the edge was
_FIRST_MARGIN_NS = 4_000_000.0
# So long before and after the expected edge it is read, at least, and at most (and a fifth of the period). An edge
# that came before the first of the two reads is known badly, one after the second only costs a read or two.
_MARGIN_NS = (1_500_000.0, 8_000_000.0)
_EARLY_MISSED, _EARLY_CAUGHT, _LATE_MISSED, _LATE_CAUGHT = 1.5, 0.98, 1.15, 0.96


class EdgeFollower:
    """Learns period and phase of one counter and says when to read it next.

    `observe` takes each reading; `next_read_ns` is the monotonic time of the next one. The brackets
    themselves follow from the readings (`curves.counter_edges`), so nothing is stored twice.
    """

    def __init__(self, start_ns: int, seed: int | None = None) -> None:
        self._random = random.Random(seed)
        self.next_read_ns = start_ns
        self.period_ns: float | None = None
        self._value: int | None = None
        self._last_ns = start_ns
        self._edges: list[int] = []  # middles of the brackets of late edges, while learning
        self._line: deque[tuple[int, float]] = deque(
            maxlen=_REMEMBERED_EDGES
        )  # number and time of late edges
        self._expected_ns = 0.0
        self._early_ns = self._late_ns = _FIRST_MARGIN_NS
        self._wide = 0
        self._waiting_since_ns = start_ns
        self._learning_since_ns = start_ns
        self._rest_ns = _REST_NS
        self._rests_until_ns = 0

    @property
    def following(self) -> bool:
        """Period and phase are known; reads stand around expected edges."""
        return self.period_ns is not None

    def observe(self, before_ns: int, after_ns: int, value: int) -> bool:
        """Note one read of `value`; True where it is the first that shows a new tick."""
        fresh = self._value is not None and value != self._value
        if fresh and after_ns >= self._rests_until_ns:
            self._edge(self._last_ns, after_ns)
        if self._value is None or fresh:
            self._waiting_since_ns = after_ns
        self._value, self._last_ns = value, before_ns
        self.next_read_ns = self._plan(after_ns, fresh)
        return fresh

    def _edge(self, low_ns: int, high_ns: int) -> None:
        middle = (low_ns + high_ns) // 2
        if self.period_ns is None:
            self._edges.append(middle)
            self._learn()
            return
        held_up = high_ns > self.next_read_ns + _HELD_UP_NS
        if high_ns - low_ns <= self.period_ns / 2:
            self._wide = 0
            on_time = high_ns <= self._expected_ns + self._late_ns + _HELD_UP_NS
            self._late_ns *= _LATE_CAUGHT if on_time or held_up else _LATE_MISSED
            self._early_ns *= _EARLY_CAUGHT
            self._take(float(middle))
        else:
            # Nobody read shortly before it: we were held up, or it came before we looked. Again and again, and
            # the phase is wrong.
            self._wide += 1
            if self._wide > _WIDE_ALLOWED:
                self._forget(high_ns)
                return
            if not held_up and abs(high_ns - self._expected_ns) < self.period_ns / 2:
                self._early_ns *= _EARLY_MISSED
                self._take(high_ns - 0.25 * self._early_ns)
        widest = min(_MARGIN_NS[1], 0.2 * self.period_ns)
        self._early_ns = min(max(self._early_ns, _MARGIN_NS[0]), widest)
        self._late_ns = min(max(self._late_ns, _MARGIN_NS[0]), widest)

    def _take(self, at_ns: float) -> None:
        """One more edge on the line: least squares over the late ones give period and phase."""
        assert self.period_ns is not None
        number, last_ns = self._line[-1]
        number += max(1, round((at_ns - last_ns) / self.period_ns))
        self._line.append((number, at_ns))
        count = len(self._line)
        mean_number = sum(n for n, _ in self._line) / count
        mean_ns = last_ns + sum(t - last_ns for _, t in self._line) / count
        square = sum((n - mean_number) ** 2 for n, _ in self._line)
        product = sum((n - mean_number) * (t - mean_ns) for n, t in self._line)
        self.period_ns = product / square
        self._expected_ns = mean_ns + (number + 1 - mean_number) * self.period_ns

    def _forget(self, now_ns: int) -> None:
        """The phase is lost: learn anew."""
        self.period_ns, self._edges, self._wide = None, [], 0
        self._early_ns = self._late_ns = _FIRST_MARGIN_NS
        self._learning_since_ns = now_ns

    def _learn(self) -> None:
        if len(self._edges) < _LEARN_EDGES:
            return
        gaps = [b - a for a, b in zip(self._edges, self._edges[1:])]
        period = sorted(gaps)[len(gaps) // 2]
        if period < _FAST_TICK_NS:
            del self._edges[:-1]
            return
        self.period_ns = float(period)
        self._line.clear()
        self._line.append((0, float(self._edges[0])))
        for edge in self._edges[1:]:
            self._take(float(edge))
        self._rest_ns = _REST_NS

    def _plan(self, now_ns: int, fresh: bool) -> int:
        if self.period_ns is None:
            return self._plan_to_learn(now_ns)
        if now_ns - self._waiting_since_ns > _PATIENCE_PERIODS * self.period_ns:
            while self._expected_ns + self._late_ns <= now_ns:
                self._expected_ns += self.period_ns
            self._wide = 0  # an edge that comes now was not missed: nobody stands ready for it
            return int(self._expected_ns + self._late_ns)
        before, after = self._expected_ns - self._early_ns, self._expected_ns + self._late_ns
        if now_ns < before:
            return int(before)
        if now_ns < after and not fresh:
            return int(after)
        unseen = now_ns - self._waiting_since_ns
        if (
            not fresh
            and now_ns < self._expected_ns + _LATE * self.period_ns
            and unseen < 1.5 * self.period_ns
        ):
            return now_ns + _RETRY_NS  # it is late, and close: stay with it
        while self._expected_ns - self._early_ns <= now_ns:
            self._expected_ns += self.period_ns
        return int(self._expected_ns - self._early_ns)

    def _plan_to_learn(self, now_ns: int) -> int:
        spent_ns = now_ns - self._learning_since_ns
        if now_ns < self._rests_until_ns:
            return now_ns + int(_LEISURE_NS * self._random.uniform(0.8, 1.2))
        few = spent_ns > _LEARN_LIMIT_NS and len(self._edges) < _FEW_EDGES
        if few or spent_ns > _LEARN_LONGEST_NS:
            self._rests_until_ns = self._learning_since_ns = now_ns + self._rest_ns
            self._rest_ns = min(2 * self._rest_ns, _LONGEST_REST_NS)
            self._edges = []
        return now_ns + self._random.randint(*_DITHER_NS)
