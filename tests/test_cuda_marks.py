"""Events beside marks: when regions ran on the device, in host time, whatever the device does."""

from __future__ import annotations

import os
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from energyprof import cuda_marks, journal
from energyprof.cuda_marks import DeviceMarks, DeviceRegion, Waits
from energyprof.device_times import DeviceClock, on_device, read_stays
from energyprof.marks import Recorder, Region, Steps, _current, read_marks
from energyprof.reasons import DEVICE_TIMES
from tests.virtual_cuda import Clock, VirtualCuda, VirtualEvent, VirtualStream

STEM = "1"


class World:
    """A recorder with a virtual device, on the real clock or on one of our own, and what is read back."""

    def __init__(self, folder: Path, clock: Clock | None = None) -> None:
        self.folder = folder
        self.clock = clock or time.monotonic_ns
        self.journal = journal.Journal(str(folder / f"program.{STEM}.log"))
        self.recorder = Recorder(str(folder), self.journal, STEM)
        self.cuda = VirtualCuda(self.clock)
        sleep = clock.sleep if clock else time.sleep
        clocks = self.clock, sleep, clock or time.thread_time_ns
        self.device = DeviceMarks(str(folder), STEM, self.journal, self.cuda, *clocks)
        self.recorder.device = self.device
        self.marks: list[tuple[int, int]] = []

    def stay(self, work_s: float, host_s: float = 0.0) -> tuple[int, int]:
        """A region by hand, on our own clock: its mark, and when its work truly ran."""
        assert isinstance(self.clock, Clock)
        mark = bytearray(struct.pack("<qqq", 1, self.clock(), 0))
        token = self.device.begin(mark, 16)
        truth = self.cuda.stream.launch(work_s)
        self.clock.sleep(host_s)
        self.marks.append((struct.unpack_from("<q", mark, 8)[0], self.clock()))
        if token is not None:
            self.device.end(token)
        return truth

    def events(self, name: str) -> list[dict]:
        found = journal.events(str(self.folder / f"program.{STEM}.log"))
        return [event for event in found if event["event"] == name]

    def read(self) -> tuple[np.ndarray, np.ndarray, bool]:
        """The hand-made marks as the device saw them."""
        begin, end = (np.array(side, np.int64) for side in zip(*self.marks))
        thread = np.full(len(begin), threading.get_native_id(), np.int64)
        stays = read_stays(str(self.folder / f"device.{STEM}"))
        return on_device(stays, DeviceClock.of(self.events("cuda_anchor")), thread, begin, end)

    def regions(self) -> np.ndarray:
        """All marks in the folder: path, begin, end."""
        parts = [np.array(read_marks(str(path))[1]) for path in self.folder.glob("marks.*")]
        rows = np.concatenate(parts).reshape(-1, 3)
        return rows[rows[:, 0] > 0]

    @property
    def flags(self) -> list[str]:
        return [event["flag"] for event in self.events("flag")]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    _current.set(0)
    made = World(tmp_path)
    yield made
    made.journal.close()


@pytest.fixture
def timeless(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, Clock())
    yield made
    made.journal.close()


def test_device_times_are_right_over_minutes_of_drift_and_run_behind_the_host(timeless: World) -> None:
    truth = [timeless.stay(0.095, host_s=0.094) for _ in range(3000)]
    timeless.device.finish(10.0)
    begin, end, whole = timeless.read()
    assert whole
    assert timeless.flags == []
    true_begin, true_end = (np.array(side) for side in zip(*truth))
    assert end[-1] - timeless.marks[-1][1] > 2_000_000_000  # the host was seconds ahead
    assert np.abs(begin - true_begin)[1:].max() < 10_000
    assert np.abs(end - true_end).max() < 10_000
    assert len(timeless.events("cuda_anchor")) == pytest.approx(3000 * 0.094 / 5, abs=3)


def test_steering_of_the_hosts_clock_is_followed_between_anchors(timeless: World) -> None:
    truth = [timeless.stay(0.09, host_s=0.1) for _ in range(300)]
    timeless.cuda.changes.append((timeless.clock(), 0.0, -200e-6))
    truth += [timeless.stay(0.09, host_s=0.1) for _ in range(300)]
    timeless.device.finish(10.0)
    begin, _, whole = timeless.read()
    assert whole
    off = np.abs(begin - np.array(truth)[:, 0])
    assert np.median(off) < 10_000
    assert off.max() < 300_000  # within the five seconds of the change


def test_a_clock_that_jumps_is_seen_and_host_times_stand_in_there(timeless: World) -> None:
    for _ in range(100):
        timeless.stay(0.05, host_s=0.1)
    timeless.cuda.changes.append((timeless.clock(), 50e6, 0.0))  # 50 ms ahead of itself
    for _ in range(200):
        timeless.stay(0.05, host_s=0.1)
    timeless.device.finish(10.0)
    clock = DeviceClock.of(timeless.events("cuda_anchor"))
    assert np.count_nonzero(~clock.holds) == 1
    begin, _, whole = timeless.read()
    assert not whole
    host = np.array(timeless.marks)[:, 0]
    at_host = np.count_nonzero(begin == host)
    assert 20 < at_host < 80  # five seconds of them
    assert np.abs(begin - host).max() < 20_000_000


def test_work_that_the_device_never_does_keeps_host_times_and_is_told(timeless: World) -> None:
    for _ in range(10):
        timeless.stay(0.001, host_s=0.01)
    timeless.cuda.stream.launch(1e6)
    for _ in range(10):
        timeless.stay(0.001, host_s=0.01)
    before = timeless.clock()
    timeless.device.finish(2.0)
    assert timeless.clock() - before < 2_100_000_000
    begin, end, _ = timeless.read()
    assert timeless.flags == [DEVICE_TIMES]
    host = np.array(timeless.marks)
    assert np.array_equal(np.stack([begin, end], 1)[10:], host[10:])


def test_a_device_far_behind_costs_a_bounded_number_of_events(
    timeless: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_marks, "_MOST_PENDING", 100)
    timeless.cuda.stream.launch(0.001)
    timeless.stay(0.0)
    timeless.cuda.stream.launch(1e6)
    for _ in range(1000):
        timeless.stay(0.0)
    assert timeless.cuda.events <= 2 * 100 + 5
    assert len(timeless.device._pending) <= 100
    assert timeless.flags == [DEVICE_TIMES]


def test_events_are_used_again(timeless: World) -> None:
    for _ in range(2000):
        timeless.stay(0.0005, host_s=0.001)
    assert timeless.cuda.events < 4 * cuda_marks._BATCH


def test_a_device_that_answers_no_anchor_keeps_host_times_at_little_cost(timeless: World) -> None:
    timeless.cuda.hangs = True
    before = timeless.clock()
    for _ in range(100):
        timeless.stay(0.0, host_s=0.01)
    assert timeless.clock() - before < 1_010_000_000
    assert timeless.flags == [DEVICE_TIMES]
    assert not (timeless.folder / f"device.{STEM}.0").exists()


def test_nothing_is_recorded_or_asked_in_a_capture(timeless: World) -> None:
    timeless.stay(0.001, host_s=0.01)
    timeless.cuda.is_capturing = True
    for _ in range(100):
        timeless.stay(0.0)
    timeless.cuda.is_capturing = False
    timeless.stay(0.001, host_s=0.01)
    timeless.device.finish(1.0)
    begin, _, whole = timeless.read()
    assert not timeless.cuda.capture_void
    assert whole
    assert timeless.flags == []
    host = np.array(timeless.marks)[:, 0]
    assert np.array_equal(begin[1:-1], host[1:-1])
    assert begin[-1] > host[-1]


def test_a_fault_of_cuda_never_reaches_the_program(world: World) -> None:
    with world.recorder.region("fine"):
        pass
    world.cuda.broken = True
    for _ in range(3):
        with world.recorder.region("broken"):
            pass
    world.device.finish(1.0)
    assert world.flags == [DEVICE_TIMES]
    assert len(world.regions()) == 4


def test_a_full_disk_costs_device_times_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.device._stem = str(world.folder / "gone" / "device")
    for _ in range(100):
        with world.recorder.region("r"):
            pass
    assert len(world.regions()) == 100
    assert world.flags == [DEVICE_TIMES]


def test_work_that_begins_on_one_device_and_ends_on_another_keeps_host_times(world: World) -> None:
    other = VirtualStream(world.cuda, 1)
    with world.recorder.region("both"):
        world.cuda.stream = other
    with world.recorder.region("second"):
        pass
    world.device.finish(1.0)
    stays = read_stays(str(world.folder / f"device.{STEM}"))
    assert stays["device"].tolist() == [1]
    assert world.flags == []
    assert [event["device"] for event in world.events("cuda_device")] == [0, 1]


def test_threads_that_come_during_the_first_anchor_wait_for_it(world: World) -> None:
    asked = threading.Event()

    class Slow(VirtualEvent):
        def query(self) -> bool:
            if not asked.is_set():
                asked.set()
                time.sleep(0.02)  # the machine puts this thread aside, once
            return super().query()

    first = threading.Thread(target=lambda: world.recorder.region("first").__enter__().__exit__())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world.cuda, "new_event", lambda: Slow(world.cuda))
        first.start()
        asked.wait()
    with world.recorder.region("second"):
        pass
    first.join()
    world.device.finish(1.0)
    assert world.flags == []
    assert len(read_stays(str(world.folder / f"device.{STEM}"))) == 2


def test_regions_nest_in_threads_and_within_themselves(world: World) -> None:
    region = world.recorder.region("r")
    assert isinstance(region, DeviceRegion)

    def work() -> None:
        for _ in range(50):
            with region, region, world.recorder.region("inner"):
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    region.__exit__()  # left more often than entered
    world.device.finish(1.0)
    rows = world.regions()
    assert len(rows) == 600
    assert np.all(rows[:, 2] >= rows[:, 1])
    stays = read_stays(str(world.folder / f"device.{STEM}"))
    assert len(stays) == 600
    assert set(stays["mark_ns"].tolist()) == set(rows[:, 1].tolist())
    assert len(np.unique(stays["thread"])) == 4


def test_steps_and_decorated_functions_have_device_times_too(world: World) -> None:
    @world.recorder.region("called")
    def call() -> None:
        world.cuda.stream.launch(0.001)

    for _ in Steps(world.recorder, range(5)):
        call()
    world.device.finish(1.0)
    assert len(read_stays(str(world.folder / f"device.{STEM}"))) == 10


def test_a_run_ends_when_the_device_has_done_what_was_queued(timeless: World) -> None:
    timeless.stay(0.001)
    _, end = timeless.cuda.stream.launch(0.3)
    timeless.device.finish(5.0)
    assert end <= timeless.clock() < end + 2_000_000


def test_a_forked_child_records_nothing(world: World) -> None:
    region = world.recorder.region("parent")
    with region:
        child = os.fork()
        if child == 0:
            world.recorder.drop_in_child()
            world.cuda.broken = True
            with world.recorder.region("child"):
                pass
            region.__exit__()
            world.device.finish(1.0)
            os._exit(0 if not world.flags else 1)
        _, status = os.waitpid(child, 0)
    assert status == 0
    world.device.finish(1.0)
    assert len(read_stays(str(world.folder / f"device.{STEM}"))) == 1


def test_stays_outlive_a_kill_and_a_torn_end(timeless: World) -> None:
    for _ in range(100):
        timeless.stay(0.0005, host_s=0.001)
    path = timeless.folder / f"device.{STEM}"
    kept = len(read_stays(str(path)))
    assert kept >= 100 - 2 * cuda_marks._BATCH
    with open(f"{path}.0", "ab") as file:
        file.write(b"\x01" * 17)
    assert len(read_stays(str(path))) == kept


def test_waiting_synchronises_at_both_ends_and_swallows_cudas_faults(world: World) -> None:
    world.recorder.device = Waits(world.cuda)
    with world.recorder.region("r"):
        assert world.cuda.waits == 1
    assert world.cuda.waits == 2
    world.recorder.drop_in_child()
    with world.recorder.region("r"):
        pass
    assert world.cuda.waits == 2


def test_without_a_device_a_region_is_the_plain_one(world: World) -> None:
    world.recorder.device = None
    looks: list[int] = []
    world.recorder.look = lambda: looks.append(1)  # type: ignore[func-returns-value]
    assert type(world.recorder.region("r")) is Region
    assert looks == [1]
    world.recorder.look = None
    assert type(world.recorder.region("r")) is Region


def test_a_stay_that_changes_its_stream_keeps_host_times(world: World) -> None:
    first = world.cuda.stream
    with world.recorder.region("changes"):
        world.cuda.stream = VirtualStream(world.cuda, 0)
    world.cuda.stream = first
    with world.recorder.region("stays"):
        pass
    world.device.finish(1.0)
    assert len(read_stays(str(world.folder / f"device.{STEM}"))) == 1


def test_regions_that_follow_each_other_on_the_device_keep_their_order(timeless: World) -> None:
    timeless.cuda.stream.launch(1.0)
    for k in range(600):  # every other one has no work: its two events happen at one time
        timeless.stay(0.04 * (k % 2), host_s=0.02)
    timeless.device.finish(10.0)
    begin, end, whole = timeless.read()
    assert whole
    assert len(timeless.events("cuda_anchor")) > 2
    assert np.all(end > begin)
    assert np.all(begin[1:] > end[:-1])
