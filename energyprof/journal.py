"""The append-only log of a running run: what survives when everything is killed.

A run that has not closed is a folder of files, each written by one process alone:

    run.json              what is measured and for whom; written whole before anything else
    meter.<pid>.log       the metering process: channels, readings, what went wrong
    program.<pid>.log     a process of the program: when it entered and left, its own reads at both ends
    marks.<pid>.*         its regions and steps (see `marks`)

A log is a sequence of blocks, each `magic, kind, length, crc32, payload`. A block of readings holds
fixed 24-byte records; a block of an event holds one JSON object. A torn or damaged block is left out
and the reader goes on with the next magic, so that a kill at any instant costs at most the block that
was being written. Standard library alone: the metering process stays small.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any

_HEADER = struct.Struct("<4sIII")  # magic, kind, payload length, crc32 of the payload
_MAGIC = b"EPJ1"
_READINGS, _EVENT = 1, 2
_MAX_PAYLOAD = 1 << 26
_PIECE_BYTES = 1 << 22  # of a log that is read: that of a day has hundreds of megabytes

# Channel, flags, duration of the read in ns, monotonic time after it in ns, value.
READING = struct.Struct("<HHIqq")
_FLUSH_BYTES = 64 * READING.size


class Journal:
    """Append to one log. Buffers readings until `flush`; events are written at once."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._buffer = bytearray()

    def reading(self, channel: int, t_before_ns: int, t_after_ns: int, value: int, flags: int = 0) -> None:
        took = min(t_after_ns - t_before_ns, 0xFFFFFFFF)
        self._buffer += READING.pack(channel, flags, took, t_after_ns, value)
        if len(self._buffer) >= _FLUSH_BYTES:
            self.flush()

    def event(self, name: str, /, **facts: Any) -> None:
        """Append one event, and every reading before it."""
        self.flush()
        self._write(_EVENT, json.dumps({"event": name, **facts}).encode())

    def flush(self) -> None:
        """Hand the buffered readings to the kernel: they then survive the death of this process."""
        if self._buffer:
            payload, self._buffer = bytes(self._buffer), bytearray()
            self._write(_READINGS, payload)

    def sync(self) -> None:
        """Force what was flushed to the disk: it then survives a power cut. May take long; any thread."""
        os.fdatasync(self._fd) if hasattr(os, "fdatasync") else os.fsync(self._fd)

    def close(self) -> None:
        if self._fd >= 0:
            try:
                self.flush()
            finally:
                os.close(self._fd)
                self._fd = -1

    def _write(self, kind: int, payload: bytes) -> None:
        block = _HEADER.pack(_MAGIC, kind, len(payload), zlib.crc32(payload)) + payload
        while block:  # a short write only happens on a full disk, where the next one raises
            block = block[os.write(self._fd, block) :]


def blocks(path: str) -> Iterator[bytes | dict[str, Any]]:
    """Everything whole in a log, in order: runs of packed `READING`s as bytes, and events as dicts.

    Damage is skipped, never guessed.
    """
    with open(path, "rb") as file:
        data, at = file.read(_PIECE_BYTES), 0
        while True:
            at = data.find(_MAGIC, at)
            found = _block_at(data, at) if at >= 0 else None
            if found is None and at >= 0 and _ends_within(data, at):
                at += 1  # damaged: the next one may be whole
                continue
            if found is None:
                more = file.read(_PIECE_BYTES)
                if not more and at < 0:
                    return
                at += not more  # a torn end
                data, at = data[at:] + more if at >= 0 else data[1 - len(_MAGIC) :] + more, 0
                continue
            kind, body = found
            at += _HEADER.size + len(body)
            if kind == _READINGS and len(body) % READING.size == 0:
                yield body
            elif kind == _EVENT:
                event = json.loads(body)
                if isinstance(event, dict):
                    yield event


def tail(path: str, start: int) -> tuple[list[bytes | dict[str, Any]], int]:
    """The whole blocks from byte `start` on of a log that is still written, and where the next will begin."""
    with open(path, "rb") as file:
        file.seek(start)
        data = file.read()
    found: list[bytes | dict[str, Any]] = []
    at = 0
    while (block := _block_at(data, at)) is not None:
        kind, body = block
        at += _HEADER.size + len(body)
        found.append(body if kind == _READINGS else json.loads(body))
    return found, start + at


def events(path: str) -> Iterator[dict[str, Any]]:
    """The events of a log alone."""
    return (block for block in blocks(path) if isinstance(block, dict))


def _ends_within(data: bytes, at: int) -> bool:
    """Whether all of the block that begins here would be there, going by its header."""
    if at + _HEADER.size > len(data):
        return False
    length = _HEADER.unpack_from(data, at)[2]
    return bool(length > _MAX_PAYLOAD) or at + _HEADER.size + length <= len(data)


def _block_at(data: bytes, at: int) -> tuple[int, bytes] | None:
    if at + _HEADER.size > len(data):
        return None
    magic, kind, length, crc = _HEADER.unpack_from(data, at)
    body = data[at + _HEADER.size : at + _HEADER.size + length]
    if magic != _MAGIC or length > _MAX_PAYLOAD or len(body) != length or zlib.crc32(body) != crc:
        return None
    return kind, body


def write_whole(path: str, text: str) -> None:
    """Write a small file so that a reader sees all of it or nothing.

    Without fsync, which may take long at a run's start: the kernel orders the rename after the data.
    """
    part = f"{path}.{os.getpid()}.part"
    with open(part, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(part, path)
