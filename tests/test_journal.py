"""The log survives cuts and damage anywhere: what is whole is read, what is not is left out."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from energyprof import journal

FIXED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def write(path: Path, count: int = 20) -> bytes:
    log = journal.Journal(str(path))
    log.event("meter", pid=1, channels=["a"])
    for k in range(count):
        log.reading(k % 3, k * 100, k * 100 + 7, k)
        if k % 5 == 4:
            log.flush()
    log.event("closed", t=1)
    log.close()
    return path.read_bytes()


def readings(path: Path) -> list[tuple[int, ...]]:
    return [
        record
        for block in journal.blocks(str(path))
        if isinstance(block, bytes)
        for record in journal.READING.iter_unpack(block)
    ]


def test_readings_and_events_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "log"
    write(path)
    assert readings(path) == [(k % 3, 0, 7, k * 100 + 7, k) for k in range(20)]
    assert [event["event"] for event in journal.events(str(path))] == ["meter", "closed"]


@FIXED
@given(st.data())
def test_a_cut_anywhere_loses_only_the_end(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "log"
    path.unlink(missing_ok=True)
    whole = write(path)
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    read = readings(path)
    assert read == [(k % 3, 0, 7, k * 100 + 7, k) for k in range(20)][: len(read)]


@FIXED
@given(st.data())
def test_damage_anywhere_gives_no_wrong_reading(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "log"
    path.unlink(missing_ok=True)
    damaged = bytearray(write(path))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    assert set(readings(path)) <= {(k % 3, 0, 7, k * 100 + 7, k) for k in range(20)}
    list(journal.events(str(path)))


@pytest.mark.parametrize("piece", [17, 64, 300, 1 << 22])
def test_a_log_is_read_alike_in_pieces_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    path = tmp_path / "log"
    whole = write(path)
    expected = list(journal.blocks(str(path)))
    monkeypatch.setattr(journal, "_PIECE_BYTES", piece)
    assert list(journal.blocks(str(path))) == expected
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + b"EPJ1EPJ" + whole[middle + 9 :] + b"EPJ1\x01")
    damaged = list(journal.blocks(str(path)))
    assert 0 < len(damaged) < len(expected)
    monkeypatch.setattr(journal, "_PIECE_BYTES", 1 << 22)
    assert list(journal.blocks(str(path))) == damaged


def test_flushed_readings_survive_the_process(tmp_path: Path) -> None:
    path = tmp_path / "log"
    if os.fork() == 0:
        log = journal.Journal(str(path))
        for k in range(10):
            log.reading(0, k, k, k)
        log.flush()
        log.reading(0, 99, 99, 99)
        os._exit(0)  # no close, no flush: as a SIGKILL would end it
    os.wait()
    assert len(readings(path)) == 10
