"""Marks: every stay in a region is written down, in any thread, task or generator, and survives a kill."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from energyprof import journal
from energyprof.marks import NoRegion, Recorder, Region, Steps, _current, read_marks


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    log = journal.Journal(str(tmp_path / f"program.{os.getpid()}.log"))
    _current.set(0)
    yield Recorder(str(tmp_path), log, str(os.getpid()))
    log.close()


def marks_in(folder: Path, pid: int | None = None) -> list[tuple[str, int, int]]:
    """All marks as (path, begin, end), in the order of their begin."""
    pid = pid or os.getpid()
    paths: dict[int, str] = {0: ""}
    for event in journal.events(str(folder / f"program.{pid}.log")):
        paths[event["id"]] = f"{paths[event['parent']]}/{event['name']}".lstrip("/")
    rows = []
    for file in folder.glob(f"marks.{pid}.*"):
        _, words = read_marks(str(file))
        rows += [(paths[i], b, e) for i, b, e in np.array(words).reshape(-1, 3).tolist() if i]
    return sorted(rows, key=lambda row: row[1])


def test_regions_nest_and_times_enclose(recorder: Recorder, tmp_path: Path) -> None:
    with Region(recorder, "outer"), Region(recorder, "inner"):
        pass
    (outer, b0, e0), (inner, b1, e1) = marks_in(tmp_path)
    assert (outer, inner) == ("outer", "outer/inner")
    assert b0 <= b1 <= e1 <= e0


def test_an_exception_closes_its_regions_and_goes_on(recorder: Recorder, tmp_path: Path) -> None:
    with pytest.raises(KeyError), Region(recorder, "a"), Region(recorder, "b"):
        raise KeyError
    with Region(recorder, "c"):
        pass
    assert [path for path, _, _ in marks_in(tmp_path)] == ["a", "a/b", "c"]
    assert all(end >= begin > 0 for _, begin, end in marks_in(tmp_path))


def test_threads_have_regions_of_their_own(recorder: Recorder, tmp_path: Path) -> None:
    def work() -> None:
        for _ in range(10):
            with Region(recorder, "worker"):
                pass

    with Region(recorder, "main"):
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [path for path, _, _ in marks_in(tmp_path)].count("worker") == 40


def test_a_thread_with_the_id_of_a_dead_one_keeps_its_marks(recorder: Recorder, tmp_path: Path) -> None:
    taken = tmp_path / f"marks.{os.getpid()}.{threading.get_native_id()}.0"
    taken.write_bytes(b"the dead one's")
    with Region(recorder, "mine"):
        pass
    taken.unlink()
    assert [path for path, _, _ in marks_in(tmp_path)] == ["mine"]


def test_tasks_and_interleaved_generators_keep_their_own_place(recorder: Recorder, tmp_path: Path) -> None:
    async def task(name: str) -> None:
        with Region(recorder, name):
            await asyncio.sleep(0.001)
            with Region(recorder, "inner"):
                await asyncio.sleep(0.001)

    async def both() -> None:
        await asyncio.gather(task("a"), task("b"))

    def generator(name: str) -> Iterator[None]:
        with Region(recorder, name):
            yield

    asyncio.run(both())
    one, two = generator("g1"), generator("g2")
    next(one)
    next(two)
    one.close()
    two.close()
    paths = {path for path, _, _ in marks_in(tmp_path)}
    assert {"a", "b", "a/inner", "b/inner", "g1", "g1/g2"} <= paths


def test_a_million_marks_are_kept(recorder: Recorder, tmp_path: Path) -> None:
    region = Region(recorder, "r")
    for _ in range(1_000_000):
        with region:
            pass
    assert len(marks_in(tmp_path)) == 1_000_000


def test_names_may_hold_anything(recorder: Recorder, tmp_path: Path) -> None:
    names = ["líne\nbreak", "../../etc/passwd", "\x00", "模型", "a/b", "", "x" * 10_000, "\udc80"]
    for name in names:
        with Region(recorder, name):
            pass
    assert [event["name"] for event in journal.events(str(tmp_path / f"program.{os.getpid()}.log"))] == names


def test_marks_survive_a_kill_and_an_open_region_is_seen(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        log = journal.Journal(str(tmp_path / f"program.{os.getpid()}.log"))
        mine = Recorder(str(tmp_path), log, str(os.getpid()))
        with Region(mine, "done"):
            pass
        Region(mine, "open").__enter__()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    (done, _, end), (still, begin, never) = marks_in(tmp_path, child)
    assert (done, still) == ("done", "open")
    assert end > 0
    assert begin > 0
    assert never == 0


def test_a_forked_child_writes_no_marks_and_does_not_end_its_parents(
    recorder: Recorder, tmp_path: Path
) -> None:
    region = Region(recorder, "parent")
    with region:
        child = os.fork()
        if child == 0:
            recorder.drop_in_child()
            with Region(recorder, "child"):
                pass
            region.__exit__()
            os._exit(0)
        os.waitpid(child, 0)
        ((path, _, end),) = marks_in(tmp_path)
        assert (path, end) == ("parent", 0)
    assert [path for path, _, _ in marks_in(tmp_path)] == ["parent"]


def test_where_no_segment_can_be_made_the_program_goes_on(recorder: Recorder, tmp_path: Path) -> None:
    recorder._folder = str(tmp_path / "gone")
    with Region(recorder, "lost"):
        pass
    assert marks_in(tmp_path) == []


def test_steps_count_each_item_and_end_with_a_break(recorder: Recorder, tmp_path: Path) -> None:
    assert list(Steps(recorder, range(3))) == [0, 1, 2]
    for item in Steps(recorder, range(10)):
        if item == 1:
            break
    rows = marks_in(tmp_path)
    assert len(rows) == 5
    assert all(end >= begin > 0 for _, begin, end in rows)


def test_steps_have_the_length_of_what_they_walk_and_no_other(recorder: Recorder) -> None:
    assert len(Steps(recorder, [1, 2, 3])) == 3
    with pytest.raises(TypeError):
        len(Steps(recorder, iter([1])))
    assert list(Steps(None, iter([1, 2]))) == [1, 2]


def test_a_region_decorates_a_function_and_nothing_costs_nothing(recorder: Recorder, tmp_path: Path) -> None:
    @Region(recorder, "called")
    def double(x: int) -> int:
        return 2 * x

    assert [double(1), double(2)] == [2, 4]
    assert len(marks_in(tmp_path)) == 2
    with NoRegion():
        assert NoRegion()(double) is double


def test_one_region_object_may_be_entered_again_while_it_is_open(recorder: Recorder, tmp_path: Path) -> None:
    region = Region(recorder, "r")
    with region, region:
        time.sleep(0.02)

    def stay() -> None:
        with region:
            time.sleep(0.02)

    threads = [threading.Thread(target=stay) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = np.concatenate(
        [
            np.frombuffer(read_marks(str(path))[1], np.int64).reshape(-1, 3)
            for path in tmp_path.glob("marks.*")
        ]
    )
    rows = rows[rows[:, 0] > 0]
    assert len(rows) == 5
    assert np.all(rows[:, 2] > rows[:, 1])
    assert (rows[:, 2] - rows[:, 1]).max() < 1_000_000_000
