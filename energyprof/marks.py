"""Begin and end of regions and steps, in the user's process: the hot path.

A mark is 24 bytes in a memory-mapped file: the id of the call path of regions, begin and end in
monotonic nanoseconds (end 0: still open). The map belongs to the kernel, so marks survive a SIGKILL of
the program without any flushing. Each thread writes to segments of its own; what an id means is in the
process's `paths` log. Nothing here reads hardware.

Segments are allocated on disk before they are mapped: writing to a hole of a full disk would be a
SIGBUS, and the user's program would die of it.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from contextvars import ContextVar
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from energyprof.cuda_marks import DeviceMarks, Waits
    from energyprof.journal import Journal

_HEADER = struct.Struct("<4sIqq")  # magic, unused, native thread id, unused
_MARK = struct.Struct("<qqq")  # path id, begin, end
_END = struct.Struct("<q")
_MAGIC = b"EPM1"
OF_TOTAL = "step of total"  # the steps of a loop that said how many the whole training has
_FIRST_MARKS, _LARGEST_MARKS = 1024, 65536

_pack_mark = _MARK.pack_into
_pack_end = _END.pack_into

# The id of the region that is running; 0 outside any. A context variable follows threads, tasks and
# generators as the language does.
_current: ContextVar[int] = ContextVar("energyprof_region", default=0)


class _Writer(threading.local):
    """This thread's segment, and where its next mark goes. `room` 0 means: a new segment is due."""

    room = 0
    at = 0
    map: Any = None
    number = 0
    marks = _FIRST_MARKS


class Recorder:
    """The marks of one process, in one run's folder.

    Parameters
    ----------
    folder
        The run's journal folder.
    journal
        The process's log, which is told each new path and each step kind.
    stem
        Names the process in the names of its files.
    """

    def __init__(self, folder: str, journal: Journal, stem: str) -> None:
        self._folder = folder
        self._stem = stem
        self._journal = journal
        self._lock = threading.Lock()
        self.paths: dict[tuple[int, str, str], int] = {}
        self.writer = _Writer()
        self.recording = True
        self.forked = False
        self.device: DeviceMarks | Waits | None = None  # what marks work on a GPU; None: nothing does
        self.look: Callable[[], DeviceMarks | Waits | None] | None = None  # while that is not known yet

    def region(self, name: str) -> Region:
        """A region of the kind that the program's devices need."""
        device = self.device
        if device is None and self.look is not None:
            device = self.look()
        return Region(self, name) if device is None else device.region(self, name)

    def new_path(self, parent: int, name: str, kind: str) -> int:
        """The id of region `name` inside `parent`; written down before it is used."""
        with self._lock:
            known = self.paths.get((parent, name, kind))
            if known is not None:
                return known
            ident = len(self.paths) + 1
            try:
                self._journal.event("path", id=ident, parent=parent, name=name, kind=kind)
            except (OSError, ValueError):
                return 0  # a full disk, or a closed run: 0 is read as unused
            self.paths[parent, name, kind] = ident
            return ident

    def path_of(self, ident: int) -> tuple[str, ...]:
        """The names from the outermost region to this one."""
        by_ident = {known: key for key, known in self.paths.items()}
        names: list[str] = []
        while ident in by_ident:
            ident, name, _ = by_ident[ident]
            names.append(name)
        return tuple(reversed(names))

    def begin(self, ident: int) -> tuple[Any, int]:
        """Write an open mark; returns the map and the offset where its end belongs."""
        writer = self.writer
        if not writer.room:
            self._rotate(writer)
        at = writer.at
        writer.at = at + 24
        writer.room -= 1
        _pack_mark(writer.map, at, ident, monotonic_ns(), 0)
        return writer.map, at + 16

    def _rotate(self, writer: _Writer) -> None:
        """A new segment for this thread; on any failure a private scrap of memory takes the marks."""
        size = _HEADER.size + writer.marks * _MARK.size
        try:
            fd = self._new_segment(writer)
            try:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(fd, 0, size)
                else:
                    os.write(fd, bytes(size))
                writer.map = mmap.mmap(fd, size)
            finally:
                os.close(fd)
        except (OSError, ValueError):
            writer.map = bytearray(size)
        _HEADER.pack_into(writer.map, 0, _MAGIC, 0, threading.get_native_id(), 0)
        writer.at, writer.room = _HEADER.size, writer.marks
        writer.marks = min(writer.marks * 4, _LARGEST_MARKS)

    def _new_segment(self, writer: _Writer) -> int:
        """A descriptor of this thread's next file; the system gives a dead thread's id to a new one."""
        stem = os.path.join(self._folder, f"marks.{self._stem}.{threading.get_native_id()}")
        while True:
            try:
                fd = os.open(
                    f"{stem}.{writer.number}", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644
                )
            except FileExistsError:
                writer.number += 1
                continue
            writer.number += 1
            return fd

    def stop(self) -> None:
        """The run has ended: steps are no longer counted; a region that is still open may end."""
        self.recording = False

    def drop_in_child(self) -> None:
        """In a forked child: it shares the parent's maps, so its marks go to memory of its own."""
        self.forked = True
        self.recording = False
        self.look = None
        if self.device is not None:
            self.device.drop_in_child()
        self._folder = os.devnull  # no segment can be made below it
        self.writer = _Writer()


class Region:
    """`with run.region(name):` one stay in a region. Also a decorator of plain functions."""

    __slots__ = ("_at", "_free", "_ident", "_map", "_more", "_name", "_parent", "_recorder")

    def __init__(self, recorder: Recorder, name: str) -> None:
        self._recorder = recorder
        self._name = name
        self._free = [
            True
        ]  # empty while the object is in use: taking from a list is one step for all threads
        self._more: dict[int, list[Region]] | None = None

    def __enter__(self) -> Region:
        try:
            self._free.pop()
        except IndexError:
            return self._enter_again()
        recorder = self._recorder
        parent = self._parent = _current.get()
        ident = recorder.paths.get((parent, self._name, "region"))
        if ident is None:
            ident = recorder.new_path(parent, str(self._name), "region")
        self._ident = ident
        _current.set(ident)
        writer = recorder.writer
        if not writer.room:
            recorder._rotate(writer)
        at = writer.at
        writer.at = at + 24
        writer.room -= 1
        self._map = target = writer.map
        self._at = at + 16
        _pack_mark(target, at, ident, monotonic_ns(), 0)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._more is not None:
            mine = self._more.get(threading.get_ident())
            if mine:
                mine.pop().__exit__()
                return
        if self._free:
            return  # left more often than entered
        if not self._recorder.forked:
            _pack_end(self._map, self._at, monotonic_ns())
        # Interleaved generators may leave regions out of order: only the current one gives way.
        if _current.get() == self._ident:
            _current.set(self._parent)
        self._free.append(True)

    def _enter_again(self) -> Region:
        """The object is in use, further out or in another thread: this stay has a mark of its own."""
        if self._more is None:
            self._more = {}
        self._more.setdefault(threading.get_ident(), []).append(
            Region(self._recorder, self._name).__enter__()
        )
        return self

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        from functools import wraps

        recorder, name = self._recorder, self._name

        @wraps(function)
        def measured(*args: Any, **kwargs: Any) -> Any:
            with recorder.region(name):
                return function(*args, **kwargs)

        return measured


class NoRegion:
    """What `energyprof.region` gives when nothing measures: costs nothing, does nothing."""

    __slots__ = ()

    def __enter__(self) -> NoRegion:
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return function


class Steps:
    """Iterate, and mark each step: from asking for an item to asking for the next one."""

    def __init__(self, recorder: Recorder | None, iterable: Any, of_total: bool = False) -> None:
        self._open: tuple[Any, int, Any, Any] | None = None  # map, where the mark ends, device, its stay
        self._iterable = iterable
        self._iterator = iter(iterable)
        self._recorder = recorder
        kind = OF_TOTAL if of_total else "step"
        self._ident = recorder.new_path(_current.get(), "step", kind) if recorder else 0

    def __iter__(self) -> Steps:
        return self

    def __len__(self) -> int:
        return len(self._iterable)

    def __next__(self) -> Any:
        self.close()
        recorder = self._recorder
        begun = self._begin(recorder) if recorder and recorder.recording else None
        try:
            item = next(self._iterator)
        except BaseException:
            if begun:  # asking for an item that is not there is no step
                _pack_mark(begun[0], begun[1] - 16, 0, 0, 0)
                if begun[3] is not None:
                    begun[2].discard(begun[3])
            raise
        self._open = begun
        return item

    def close(self) -> None:
        """End the open step; called by the next item, by the end of the loop, and by a `break`."""
        if self._open:
            (target, at, device, stay), self._open = self._open, None
            if self._recorder and not self._recorder.forked:
                _pack_end(target, at, monotonic_ns())
                if stay is not None:
                    device.end(stay)

    def _begin(self, recorder: Recorder) -> tuple[Any, int, Any, Any]:
        target, at = recorder.begin(self._ident)
        device = recorder.device or (recorder.look and recorder.look())
        return target, at, device, device.begin(target, at) if device else None

    __del__ = close


def read_marks(path: str) -> tuple[int, memoryview]:
    """The native thread id of a segment and its marks, as int64 in rows of (path id, begin, end)."""
    with open(path, "rb") as file:
        data = file.read()
    if len(data) < _HEADER.size:
        return 0, memoryview(b"").cast("q")
    magic, _, thread, _ = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        return 0, memoryview(b"").cast("q")
    whole = (len(data) - _HEADER.size) // _MARK.size * _MARK.size
    return thread, memoryview(data)[_HEADER.size : _HEADER.size + whole].cast("q")
