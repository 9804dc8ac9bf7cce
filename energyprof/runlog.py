"""A run's folder as arrays: what the meter read, who was inside and when, and every mark.

Reads what is whole and leaves out what is torn; decides nothing about joules.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energyprof import folds, journal, runfolder
from energyprof.collectors.base import Channel
from energyprof.collectors.nvml import GAIN
from energyprof.device_times import DeviceClock, on_device, read_stays
from energyprof.folds import Fold, Key
from energyprof.intervals import Kind, Marks, no_marks
from energyprof.marks import OF_TOTAL, read_marks
from energyprof.reasons import DEVICE_CLOCK, DEVICE_TIMES, SENSOR_GAP
from energyprof.streams import Stream, Times

READING_TYPE = np.dtype(
    [("channel", "<u2"), ("flags", "<u2"), ("took_ns", "<u4"), ("t_ns", "<i8"), ("value", "<i8")]
)
_KEPT = np.dtype([("took_ns", "<u4"), ("t_ns", "<i8"), ("value", "<i8")])  # with the channel known
_BLOCKS_AT_ONCE = 2048
assert READING_TYPE.itemsize == journal.READING.size


@dataclass
class Process:
    """What one process of the program said: spans inside the run, metrics, versions."""

    stem: str  # its pid, and a number where several programs ran in one process
    rank: int = 0
    spans: list[tuple[int, int | None]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    failed: bool = False
    paths: dict[int, tuple[int, str, str]] = field(default_factory=dict)
    quiet: tuple[int, int] | None = None
    cuda: list[dict[str, Any]] = field(default_factory=list)  # its devices, and the anchors of their clocks
    flags: set[str] = field(default_factory=set)
    total: int | None = None  # steps of the whole training, as it said


@dataclass
class RunLog:
    """Everything that a run's folder says."""

    facts: dict[str, Any]
    streams: dict[str, Stream]
    processes: list[Process]
    missing: list[dict[str, str]]
    flags: set[str]
    lost: dict[str, str]
    outer: Process | None
    exit_code: int | None
    closed: bool
    kinds: list[Kind]
    marks: Marks
    quiet: tuple[int, int] | None = None  # the idle time before the run, where one was measured
    keys: list[Key] = field(default_factory=list)  # of each kind: the process, and its path id there
    folds: list[Fold] = field(default_factory=list)

    @property
    def folded_ns(self) -> int:
        """What ended before is in the folds, not among the marks."""
        return max((fold.until_ns for fold in self.folds), default=0) or int(self.facts["t_ns"])

    @property
    def last_ns(self) -> int:
        """The last instant that anything in the folder knows of."""
        ends = [int(s.after_ns[-1]) for s in self.streams.values() if len(s.after_ns)]
        ends += [t for p in self.members for span in p.spans for t in span if t is not None]
        return max(ends, default=int(self.facts["t_ns"]))

    @property
    def members(self) -> list[Process]:
        """Who defines the run's extent: the process that `energyprof run` watched, else all inside."""
        return [self.outer] if self.outer else self.processes


def load(folder: str) -> RunLog:
    """Read a run's folder; OSError or ValueError where not even `run.json` is whole."""
    facts = runfolder.facts_of(folder)
    names = sorted(os.listdir(folder))
    programs = [n for n in names if re.fullmatch(r"program\.\d+(_\d+)?\.log", n)]
    meters = [n for n in names if re.fullmatch(r"meter\.\d+\.log", n)]
    log = RunLog(facts, {}, [], [], set(), {}, None, None, False, [], no_marks())
    ends: list[dict[str, Any]] = []
    for name in programs:
        log.processes.append(_process(os.path.join(folder, name), name.split(".")[1], ends))
        log.quiet = log.quiet or log.processes[-1].quiet
    parts: dict[str, list[NDArray[Any]]] = {}
    for name in meters:
        _meter(os.path.join(folder, name), log, parts)
    _streams(log, parts, ends)
    log.kinds, log.keys, log.marks = _marks(folder, names, log)
    log.flags.update(flag for process in log.processes for flag in process.flags)
    device = _device_times(folder, log)
    log.marks = replace(log.marks, device=device)
    log.folds = folds.read(folder, {key: index for index, key in enumerate(log.keys)})
    if any(fold.damaged for fold in log.folds):
        log.flags.add(SENSOR_GAP)
    if log.folds:
        log.marks = log.marks.chosen(log.marks.over_ns > log.folded_ns)
    return log


def _process(path: str, stem: str, ends: list[dict[str, Any]]) -> Process:
    process = Process(stem)
    for event in journal.events(path):
        kind = event.get("event")
        if kind == "enter":
            process.spans.append((int(event["t"]), None))
            process.rank = int(event.get("rank", 0))
            process.facts.update(event)
        elif kind == "leave" and process.spans:
            process.spans[-1] = (process.spans[-1][0], int(event["t"]))
            process.metrics.update(event.get("metrics") or {})
            process.counts = dict(event.get("counts") or {})
            process.failed |= bool(event.get("failed"))
        elif kind == "path":
            process.paths[int(event["id"])] = (int(event["parent"]), str(event["name"]), str(event["kind"]))
        elif kind == "total":
            process.total = int(event["steps"])
        elif kind == "end_read":
            ends.append(event)
        elif kind == "baseline":
            process.quiet = (int(event["begin"]), int(event["t"]))
        elif kind in ("cuda_device", "cuda_anchor"):
            process.cuda.append(event)
        elif kind == "flag":
            process.flags.add(str(event["flag"]))
    return process


def _meter(path: str, log: RunLog, parts: dict[str, list[NDArray[Any]]]) -> None:
    channels: list[Channel] = []
    waiting: list[bytes] = []
    for block in journal.blocks(path):
        if isinstance(block, bytes):
            waiting.append(block)
            if len(waiting) == _BLOCKS_AT_ONCE:
                _sort_out(waiting, channels, parts)
            continue
        _sort_out(waiting, channels, parts)
        kind = block.get("event")
        if kind == "meter":
            channels = [channel_of(facts) for facts in block["channels"]]
            followed = set(block.get("followed", ()))
            nothing = np.zeros(0, np.int64)
            for index, channel in enumerate(channels):
                stream = Stream(channel, index in followed, nothing, nothing, nothing)
                log.streams.setdefault(channel.name, stream)
            log.missing = list(block.get("missing", ()))
        elif kind == "lost":
            log.lost.update(dict.fromkeys(block["channels"], str(block["reason"])))
        elif kind == "flag":
            log.flags.add(str(block["flag"]))
        elif kind == "closed":
            log.closed = True
        elif kind == "baseline":
            log.quiet = (int(block["begin"]), int(block["t"]))
        elif kind == "spawned":
            log.outer = Process(str(block["pid"]), spans=[(int(block["t"]), None)])
        elif kind == "exited" and log.outer:
            log.outer.spans[-1] = (log.outer.spans[-1][0], int(block["t"]))
            log.exit_code = int(block["code"])
    _sort_out(waiting, channels, parts)


def _sort_out(
    waiting: list[bytes], channels: Sequence[Channel], parts: dict[str, list[NDArray[Any]]]
) -> None:
    """Blocks of readings, by channel; empties the list."""
    readings = np.frombuffer(b"".join(waiting), READING_TYPE)
    waiting.clear()
    for index in np.unique(readings["channel"]).tolist():
        if index < len(channels):
            mine = readings[readings["channel"] == index]
            parts.setdefault(channels[index].name, []).append(
                mine[["took_ns", "t_ns", "value"]].astype(_KEPT)
            )


def channel_of(facts: dict[str, Any]) -> Channel:
    """A channel from its facts in a journal."""
    known = {key: value for key, value in facts.items() if key in Channel.__dataclass_fields__}
    known["flags"] = tuple(known.get("flags", ()))
    return Channel(**known)


def _streams(log: RunLog, parts: dict[str, list[NDArray[Any]]], ends: list[dict[str, Any]]) -> None:
    """Join each channel's readings, the program's own end reads among them, in the order of time.

    A GPU that only the program saw (a rank with a CUDA_VISIBLE_DEVICES of its own) has no others.
    """
    for name in sorted({str(e.get("channel")) for e in ends} - set(log.streams)):
        if re.fullmatch(r"gpu:\d+", name):
            nothing = np.zeros(0, np.int64)
            board = Channel(name, "energy", "counter", "GPU board", gain_u95=GAIN[0], gain_source=GAIN[1])
            log.streams[name] = Stream(board, False, nothing, nothing, nothing)
    for name, stream in log.streams.items():
        blocks = parts.pop(name, [])  # a long run's readings are not held twice
        # By a device's own name they are its counter's: where a gauge or a model has it, the meter could not read that.
        fits = "/" in name or stream.channel.quantity == "energy"
        own = [e for e in ends if e.get("channel") == name and fits]
        after = np.concatenate([b["t_ns"] for b in blocks] + [np.array([e["after"] for e in own], np.int64)])
        before = np.concatenate(
            [b["t_ns"] - b["took_ns"] for b in blocks] + [np.array([e["before"] for e in own], np.int64)]
        )
        value = np.concatenate([b["value"] for b in blocks] + [np.array([e["value"] for e in own], np.int64)])
        order = np.argsort(after, kind="stable")
        stream.after_ns, stream.before_ns, stream.value = after[order], before[order], value[order]


def _marks(folder: str, names: Sequence[str], log: RunLog) -> tuple[list[Kind], list[Key], Marks]:
    """All marks of all processes. What was still open ends where its process left, or was last seen."""
    kinds: list[Kind] = []
    keys: list[Key] = []
    columns: list[tuple[Times, Times, Times, Times]] = []
    for process in log.processes:
        end_ns = next((t for _, t in reversed(process.spans) if t is not None), None)
        if any(end is None for _, end in process.spans) or end_ns is None:
            end_ns = log.last_ns
        index_of = _kinds_of(process, kinds, log.facts)
        keys += [(process.stem, ident) for ident in index_of]
        ids = np.array(sorted(index_of), np.int64)
        for name in names:
            if not name.startswith(f"marks.{process.stem}.") or len(ids) == 0:
                continue
            thread, words = read_marks(os.path.join(folder, name))
            rows = np.frombuffer(words, np.int64).reshape(-1, 3)
            ident, begin, end = rows[:, 0], rows[:, 1], rows[:, 2]
            place = np.clip(np.searchsorted(ids, ident), 0, len(ids) - 1)
            # What was marked after the last that is known of the run has no readings to go by.
            end = np.minimum(np.where(end == 0, end_ns, end), log.last_ns)
            whole = (ids[place] == ident) & (begin > 0) & (end >= begin)
            lookup = np.array([index_of[int(i)] for i in ids], np.int64)
            columns.append(
                (lookup[place][whole], np.full(int(whole.sum()), thread, np.int64), begin[whole], end[whole])
            )
    if not columns:
        return kinds, keys, no_marks()
    kind, threads, begins, ends = (np.concatenate(column) for column in zip(*columns))
    return kinds, keys, Marks(kind.astype(np.int32), threads, begins, ends)


def _device_times(folder: str, log: RunLog) -> dict[str, tuple[Times, Times]]:
    """When the marks were on each GPU whose events were recorded, by channel; see `Marks.on`."""
    found: dict[str, tuple[Times, Times]] = {}
    for process in log.processes:
        stays = read_stays(os.path.join(folder, f"device.{process.stem}"))
        for device in np.unique(stays["device"]).tolist():
            mine = [event for event in process.cuda if event.get("device") == device]
            clock = DeviceClock.of([event for event in mine if event["event"] == "cuda_anchor"])
            name = gpu_of(next((str(event.get("uuid", "")) for event in mine), ""), log.streams)
            if not clock.holds.all():
                log.flags.add(DEVICE_CLOCK)
            if name is None:
                log.flags.add(DEVICE_TIMES)
                continue
            times = found.get(name, (log.marks.begin_ns, log.marks.end_ns))
            begin, end, whole = on_device(stays[stays["device"] == device], clock, log.marks.thread, *times)
            found[name] = np.minimum(begin, log.last_ns), np.minimum(end, log.last_ns)
            if not whole:
                log.flags.add(DEVICE_TIMES)
    return found


def gpu_of(uuid: str, streams: Mapping[str, Stream]) -> str | None:
    """The channel of a GPU by its UUID, which CUDA gives without NVML's "GPU-"; else the only one.

    A MIG slice has a UUID of its own, and old versions of PyTorch tell none.
    """
    boards = {name: s.channel.device for name, s in streams.items() if re.fullmatch(r"gpu:\d+", name)}
    plain = uuid.lower().removeprefix("gpu-")
    for name, facts in boards.items():
        if plain and str(facts.get("uuid", "")).lower().removeprefix("gpu-") == plain:
            return name
    return next(iter(boards)) if len(boards) == 1 else None


def _kinds_of(process: Process, kinds: list[Kind], facts: dict[str, Any]) -> dict[int, int]:
    """Add a process's call paths to `kinds`; returns the index of each of its path ids.

    The calls of a decorated function are a region of their run; it goes without saying in the paths of
    the regions inside.
    """
    own = str(facts.get("name")) if facts.get("reopens") else None
    index_of: dict[int, int] = {}
    for ident in sorted(process.paths):  # a parent's id is always lower than its children's
        parent, name, row_kind = process.paths[ident]
        above = index_of.get(parent, -1)
        path = (*(kinds[above].path if above >= 0 else ()), name)
        if len(path) > 1 and path[0] == own and kinds[above].parent < 0:
            path = path[1:]
        index_of[ident] = len(kinds)
        of_total = row_kind == OF_TOTAL
        kinds.append(Kind(process.rank, path, above, "step" if of_total else row_kind, of_total))
    return index_of
