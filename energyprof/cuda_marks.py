"""When the work of a region ran on the GPU: CUDA events beside the host's marks, without waiting for them.

The host runs ahead of a GPU: it queues kernels and goes on, so that a region's begin and end in host time
say when its work was asked for. An event that is recorded at each end is reached by the device when the
work before it is done. Which host time that was is known through *anchors*: every few seconds an event on
an idle stream of our own is watched, so that the host knows when it happened to some microseconds. Events
are stored as they are measured, as milliseconds since an anchor (a float32, so anchors must be near);
`device_times` maps them onto the host's clock when the run is sealed and all anchors are known.

Events are asked for later, a batch at a time, and only whether they are done. What is never done, what is
inside the capture of a CUDA graph, and what a fault of ours spoils keeps its host time. No exception leaves
this file.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections import deque
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from energyprof.cuda_calls import RELAXED
from energyprof.marks import Region
from energyprof.reasons import DEVICE_TIMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from energyprof.cuda_calls import Cuda, Event
    from energyprof.journal import Journal
    from energyprof.marks import Recorder

# Device and stream, thread and host begin of the mark, anchors of its begin and end, ms since those.
RECORD = struct.Struct("<HHIqIIff")
_PART_BYTES = 2 << 20

_ANCHOR_EVERY_NS = 5_000_000_000  # a float32 of 5 s of milliseconds is good to 0.5 us, as events are
_ANCHOR_TRIES, _ANCHOR_LIMIT_NS = 6, 1_000_000  # how long a region is held up, every 5 s
_TIGHT_NS, _LOOSE_NS = 15_000, 500_000  # host brackets of an anchor: no need to try on; of no use
_FIRST_ANCHOR_S = 0.2  # the first anchor is waited for where another thread, put aside perhaps, is at it
_BATCH = 32
_MOST_PENDING = 4096
_NAP_S = 0.0002

_begin_of = struct.Struct("<q").unpack_from


class _Board:
    """One device: its pool of events, our own stream there, and the latest anchor."""

    def __init__(self, index: int, stream: Any) -> None:
        self.index = index
        self.stream = stream
        self.pool: list[Event] = []
        self.events = 0
        self.streams: dict[int, int] = {}  # the program's streams by id: 0, 1, ...
        self.anchor: Event | None = None
        self.number = -1
        self.due_ns = 0


class Stay:
    """One stay in a region: which mark it is, and its two events in a stream."""

    __slots__ = ("begin_ns", "begun", "begun_since", "board", "ended", "ended_since", "stream", "thread")

    def __init__(self, board: _Board, stream: int, thread: int, begin_ns: int, begun: Event) -> None:
        self.board, self.stream, self.begun = board, stream, begun
        self.thread, self.begin_ns = thread, begin_ns
        self.begun_since = self.ended_since = (board.number, board.anchor)
        self.ended: Event | None = None


class DeviceMarks:
    """The events of one process, in one run's folder.

    Parameters
    ----------
    folder, stem, journal
        As for `marks.Recorder`.
    cuda
        The calls of CUDA.
    clock, sleep, spent
        Monotonic nanoseconds; seconds to let pass; nanoseconds that this thread has computed.
    """

    def __init__(
        self,
        folder: str,
        stem: str,
        journal: Journal,
        cuda: Cuda,
        clock: Callable[[], int] = monotonic_ns,
        sleep: Callable[[float], None] = time.sleep,
        spent: Callable[[], int] = time.thread_time_ns,
    ) -> None:
        self._stem = os.path.join(folder, f"device.{stem}")
        self._part, self._part_bytes = 0, 0
        self._journal = journal
        self._cuda = cuda
        self._clock = clock
        self._sleep = sleep
        self._spent = spent
        self._boards: dict[int, _Board] = {}
        self._pending: deque[Stay] = deque()
        self._look_at = _BATCH  # so many pending: see which of them are done
        self._lock = threading.Lock()
        self._said = False
        self.live = True

    def region(self, recorder: Recorder, name: str) -> Region:
        return DeviceRegion(recorder, name, self)

    def begin(self, target: Any, at: int) -> Stay | None:
        """Record the begin of the mark that ends at `at` in the map `target`; None: host time alone."""
        return self._begun(threading.get_native_id(), _begin_of(target, at - 8)[0])

    def _begun(self, thread: int, t_ns: int) -> Stay | None:
        """An event in the current stream for an instant of a thread; None where there is none to be had."""
        if not self.live:
            return None
        try:
            if self._cuda.capturing():
                return None  # an event would become part of the program's graph
            stream = self._cuda.current_stream()
            board = self._boards.get(stream.device_index) or self._open(stream.device_index)
            event = self._event(board)
            if event is None:
                return None
            event.record(stream)
            return Stay(board, stream.stream_id, thread, t_ns, event)
        except Exception:
            self._fail()
            return None

    def end(self, stay: Stay) -> None:
        """Record the end of a stay, after its mark has ended; now and then see which are done."""
        if not self.live:
            return
        try:
            if self._cuda.capturing():
                return self.discard(stay)
            stream = self._cuda.current_stream()
            if stream.device_index != stay.board.index or stream.stream_id != stay.stream:
                return self.discard(stay)  # of two devices or streams neither saw both ends
            event = self._event(stay.board)
            if event is None:
                return self.discard(stay)
            event.record(stream)
            stay.ended, stay.ended_since = event, (stay.board.number, stay.board.anchor)
            self._keep(stay)
        except Exception:
            self._fail()

    def stamp(self, thread: int, t_ns: int) -> None:
        """Record one event for an instant of the host: a stay that ends where it begins.

        `thread` names whose instant it is, also where another thread (autograd's) does the work.
        """
        stay = self._begun(thread, t_ns)
        if stay is not None:
            try:
                stay.ended = stay.begun
                self._keep(stay)
            except Exception:
                self._fail()

    def _keep(self, stay: Stay) -> None:
        """Wait for a stay's events; now and then see which are done."""
        self._pending.append(stay)
        if len(self._pending) >= self._look_at:
            self._resolve(2 * _BATCH)

    def discard(self, stay: Stay) -> None:
        """The mark keeps its host time."""
        stay.board.pool.append(stay.begun)

    def finish(self, wait_s: float) -> None:
        """The run ends: wait until the current stream has done what was queued, though not for ever."""
        if not self.live:
            return
        try:
            if self._cuda.capturing():
                return
            limit_ns = self._clock() + round(wait_s * 1e9)
            last = self._last_event() if wait_s > 0 else None
            while (self._resolve(_MOST_PENDING) or not (last is None or self._done(last))) and (
                self._clock() < limit_ns
            ):
                self._sleep(_NAP_S)
            for board in self._boards.values():
                self._anchor(board)
            if wait_s > 0 and self._pending:
                self._say()
        except Exception:
            self._fail()

    def drop_in_child(self) -> None:
        """In a forked child CUDA cannot be used, and the marks are the parent's."""
        self.live = False

    def _open(self, index: int) -> _Board:
        with self._lock:
            if index not in self._boards:
                self._journal.event("cuda_device", device=index, uuid=self._cuda.uuid(index))
                self._boards[index] = _Board(index, self._cuda.new_stream(index))
        return self._boards[index]

    def _event(self, board: _Board) -> Event | None:
        """An event to record, with an anchor before it; None where one of them is not to be had."""
        if self._clock() >= board.due_ns:
            self._anchor(board)
        if board.anchor is not None:
            try:
                return board.pool.pop()
            except IndexError:
                if board.events < 2 * _MOST_PENDING:
                    board.events += 1
                    return self._cuda.new_event()
        self._say()  # nothing answers, or the device is thousands of regions behind
        return None

    def _last_event(self) -> Event:
        event = self._cuda.new_event()
        event.record(self._cuda.current_stream())
        return event

    def _done(self, event: Event) -> bool:
        before = self._cuda.exchange_capture_mode(RELAXED)
        try:
            return event.query()
        finally:
            self._cuda.exchange_capture_mode(before)

    def _anchor(self, board: _Board) -> None:
        """See an event happen between two readings of the host's clock; the closest of a few tries."""
        first = board.anchor is None
        if not self._lock.acquire(timeout=_FIRST_ANCHOR_S if first else 0):
            return  # another thread is at it, and the one before serves
        before = self._cuda.exchange_capture_mode(RELAXED)
        try:
            if first and self._clock() < board.due_ns:
                return  # while this one waited, another has tried
            # In our own time: on a busy machine this thread is put aside for longer than the limit, and what
            # that spoiled is tried again.
            limit_ns = self._spent() + _ANCHOR_LIMIT_NS
            best_ns, best_at, best, spare = _LOOSE_NS, 0, None, self._cuda.new_event()
            for _ in range(_ANCHOR_TRIES):
                asked_ns = self._clock()
                spare.record(board.stream)
                while not (done := spare.query()) and self._spent() < limit_ns:
                    pass
                took_ns = self._clock() - asked_ns
                if not done:
                    break
                if took_ns < best_ns:
                    best_ns, best_at = took_ns, asked_ns + took_ns // 2
                    best, spare = spare, best or self._cuda.new_event()
                if best_ns < _TIGHT_NS or self._spent() > limit_ns:
                    break
            if best is None:
                return
            since_ms = board.anchor.elapsed_time(best) if board.anchor is not None else 0.0
            facts = {"device": board.index, "number": board.number + 1, "t": best_at, "took": best_ns}
            self._journal.event("cuda_anchor", since_ms=since_ms, **facts)
            board.number, board.anchor = board.number + 1, best
        finally:
            board.due_ns = self._clock() + _ANCHOR_EVERY_NS
            self._cuda.exchange_capture_mode(before)
            self._lock.release()

    def _resolve(self, most: int) -> int:
        """Store the oldest stays that are done; returns how many are pending still."""
        if not self._lock.acquire(blocking=False):
            return len(self._pending)
        before = self._cuda.exchange_capture_mode(RELAXED)
        rows = bytearray()
        try:
            while self._pending and most:
                stay, most = self._pending[0], most - 1
                assert stay.ended is not None
                if not (stay.ended.query() and stay.begun.query()):
                    break
                self._pending.popleft()
                (begun_at, begun_since), (ended_at, ended_since) = stay.begun_since, stay.ended_since
                assert begun_since is not None
                assert ended_since is not None
                begun_ms, ended_ms = (
                    begun_since.elapsed_time(stay.begun),
                    ended_since.elapsed_time(stay.ended),
                )
                streams = stay.board.streams
                stream = streams.setdefault(stay.stream, len(streams) & 0xFFFF)
                mark = stay.board.index, stream, stay.thread, stay.begin_ns
                rows += RECORD.pack(*mark, begun_at, ended_at, begun_ms, ended_ms)
                stay.board.pool += {stay.begun, stay.ended}
            self._look_at = len(self._pending) + _BATCH
            if rows:
                self._store(rows)
        finally:
            self._cuda.exchange_capture_mode(before)
            self._lock.release()
        return len(self._pending)

    def _store(self, rows: bytearray) -> None:
        """Append whole records: what the kernel has survives this process. In parts, so that old ones may go."""
        if self._part_bytes >= _PART_BYTES:
            self._part, self._part_bytes = self._part + 1, 0
        self._part_bytes += len(rows)
        fd = os.open(
            f"{self._stem}.{self._part}", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644
        )
        try:
            os.write(fd, rows)
        finally:
            os.close(fd)

    def _fail(self) -> None:
        """CUDA or the disk refused something: host times from now on."""
        self.live = False
        self._say()

    def _say(self) -> None:
        if self._said:
            return
        self._said = True
        try:
            self._journal.event("flag", flag=DEVICE_TIMES)
        except (OSError, ValueError):
            pass  # a full disk, or a closed run


class DeviceRegion(Region):
    """A region with events at its ends. Each stay has a mark of its own, also of one object used twice."""

    __slots__ = ("_device", "_stays")

    def __init__(self, recorder: Recorder, name: str, device: DeviceMarks) -> None:
        super().__init__(recorder, name)
        self._device = device
        self._stays: dict[int, list[tuple[Region, Stay | None]]] = {}

    def __enter__(self) -> Region:
        mark = Region(self._recorder, self._name).__enter__()
        stay = self._device.begin(mark._map, mark._at)
        self._stays.setdefault(threading.get_ident(), []).append((mark, stay))
        return self

    def __exit__(self, *exc: object) -> None:
        mine = self._stays.get(threading.get_ident()) or next(filter(None, list(self._stays.values())), None)
        if not mine:
            return  # left more often than entered
        mark, stay = mine.pop()
        mark.__exit__()
        if stay is not None:
            self._device.end(stay)


class Waits:
    """`cuda="sync"`: the host waits for the device at each region's ends, so host times are right."""

    live = True

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda

    def region(self, recorder: Recorder, name: str) -> Region:
        return WaitingRegion(recorder, name, self)

    def begin(self, target: Any, at: int) -> None:
        """A step has no end of its own to wait at."""

    def end(self, stay: Any) -> None: ...

    def discard(self, stay: Any) -> None: ...

    def finish(self, wait_s: float) -> None:
        if wait_s > 0:
            self.wait()

    def wait(self) -> None:
        if self.live:
            try:
                self._cuda.synchronize()
            except Exception:  # the program's own fault, and its next call will say so
                return

    def drop_in_child(self) -> None:
        self.live = False


class WaitingRegion(Region):
    """A region that waits for the device before each of its marks."""

    __slots__ = ("_waits",)

    def __init__(self, recorder: Recorder, name: str, waits: Waits) -> None:
        super().__init__(recorder, name)
        self._waits = waits

    def __enter__(self) -> Region:
        self._waits.wait()
        return super().__enter__()

    def __exit__(self, *exc: object) -> None:
        self._waits.wait()
        super().__exit__(*exc)
