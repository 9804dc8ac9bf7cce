"""A run as the program's own process sees it: start or join it, read the counters at its ends, leave it.

Three ways in. *Own*: nobody measures yet, so this process makes the run's folder and sees that a helper
reads the hardware. *Joined*: the environment names a run (`energyprof run`), and this process only adds
its marks. *Group*: the ranks of a launcher on this node share one run and one helper; the first to come
starts it, and a lock decides who is first.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import threading
import time
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from energyprof import runfolder
from energyprof.journal import Journal
from energyprof.marks import Recorder
from energyprof.reasons import DEVICE_TIMES

if TYPE_CHECKING:
    from energyprof.cuda_marks import DeviceMarks, Waits
    from energyprof.layers.in_place import LayerTimer

_DAY_S = 86_400.0
_METER_STARTS_NS = 5_000_000_000  # at most: a tenth of a second is usual
_STARTER_S = 0.1  # a shell is gone after a millisecond
_QUEUED_S = 5.0  # the longest that a run's end waits for the GPU
_RANK_VARIABLES = (  # rank, local rank, ranks on this node, world size
    ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE"),  # torchrun
    (
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
        "OMPI_COMM_WORLD_SIZE",
    ),
    ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE", "SLURM_NTASKS"),
)


class Helper:
    """The metering process of this program; one, whatever the number of runs."""

    socket: socket.socket | None = None
    _starter: subprocess.Popen[bytes] | None = None

    @classmethod
    def tell(cls, folder: str, start: bool = True) -> None:
        """Have the helper look at the run in `folder`, starting it first where none is there."""
        cls._reap()
        line = os.fsencode(folder) + b"\n"
        if cls.socket is not None:
            try:
                # Not a pipe: a program that restored SIGPIPE would die of writing to a helper that left.
                cls.socket.send(line, socket.MSG_NOSIGNAL)
                return
            except OSError:
                cls.socket.close()
                cls.socket = None
        if start:
            cls._start(line)

    @classmethod
    def _start(cls, line: bytes) -> None:
        from energyprof.spawn import daemon_command, environment

        ours, theirs = socket.socketpair()
        try:
            ours.send(line)
            # A session of its own: ^C in the terminal is for the program, not for its meter. The process
            # started here makes the helper and leaves at once, and is waited for, so that the program has no
            # child which its own os.wait() or psutil would find.
            cls._starter = subprocess.Popen(
                daemon_command("energyprof.helper", str(theirs.fileno()), str(os.getpid())),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
                env=environment(),
            )
            code = cls._starter.wait(_STARTER_S)
            cls._starter = None
            if code:
                raise OSError(f"the metering process could not be started (status {code})")
        except subprocess.TimeoutExpired:
            pass  # a busy machine: it is reaped later
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        cls.socket = ours
        atexit.register(cls._close)

    @classmethod
    def _close(cls) -> None:
        """At the program's end: the helper sees it by itself, and Python complains of open sockets."""
        if cls.socket is not None:
            cls.socket.close()
            cls.socket = None

    @classmethod
    def _reap(cls) -> None:
        if cls._starter is not None and cls._starter.poll() is not None:
            cls._starter = None

    @classmethod
    def forget_in_child(cls) -> None:
        """A forked child has no helper; the parent's socket must not be kept open by it."""
        if cls.socket is not None:
            cls.socket.close()
        if cls._starter is not None:
            cls._starter.returncode = 0  # the parent's to wait for
        cls.socket, cls._starter = None, None


class Session:
    """This process's part of one run, from `enter` to `leave`; may be entered again while it lasts.

    Parameters
    ----------
    folder
        The run's folder.
    role
        ``own``: this process sees to the meter. ``group``: another rank on this node does.
        ``joined``: `energyprof run` does, and the run ends with it.
    cuda
        How regions are timed on a GPU: see `profile`.
    layers
        Which steps are timed layer by layer, as "wait,warmup,active"; empty: none.
    """

    def __init__(self, folder: str, role: str, cuda: str = "off", layers: str = "") -> None:
        self.folder = folder
        self.role = role
        self.in_process = False
        stem = _stem(folder)
        self.journal = Journal(os.path.join(folder, f"program.{stem}.log"))
        self.recorder = Recorder(folder, self.journal, stem)
        self._stem, self._cuda = stem, cuda
        if cuda != "off":
            self.recorder.look = self._look_for_cuda
        self._ends: Any = None
        self._lock = threading.Lock()
        self.metrics: dict[str, float] = {}
        self.counts: dict[str, float] = {}
        self.left_ns = 0
        self._total, self._contradicted = 0, False
        self._layers = layers
        self.reopens = False  # a decorated function: the run goes on after it is left
        self.timer: LayerTimer | None = None

    def enter(self, name: str, baseline_s: float = 0.0) -> None:
        """Begin (or begin again): last of all the counters are read, and time starts after that.

        Before that the meters see the idle machine for `baseline_s` seconds.
        """
        runfolder.enter(self.folder)
        if self.role == "own":
            self._start_meter()
        if baseline_s > 0:
            self._stay_idle(baseline_s)
        self.recorder.recording = True
        self._note_ends()
        torch = sys.modules.get("torch")
        self.journal.event(
            "enter",
            t=monotonic_ns(),
            name=name,
            python=sys.version.split()[0],
            torch=getattr(torch, "__version__", None),
            **rank_facts(),
        )
        if self._layers and self.timer is None:
            self._follow_layers()

    def leave(self, failed: bool) -> None:
        """End: the GPU does what was queued, time stops, the counters are read, and the meter may know."""
        if self.timer is not None and self.folder not in _lasting and not self.reopens:
            self.timer.close()
            atexit.unregister(self.timer.close)
        try:
            self._finish_device(0.0 if failed or self.role == "joined" else _QUEUED_S)
        finally:
            self.left_ns = monotonic_ns()
        try:
            self._note_ends()
            self.journal.event(
                "leave", t=self.left_ns, failed=failed, metrics=self.metrics, counts=self.counts
            )
        finally:
            self.recorder.stop()
            runfolder.leave(self.folder)
        if self.role == "own" and not self.in_process:
            Helper.tell(self.folder, start=False)

    def close(self) -> None:
        """Release this process's files, unless it may enter again; the folder stays with whoever seals it."""
        if os.path.isdir(self.folder) and self.folder in _lasting:
            return
        if self._ends is not None:
            self._ends.close()
            self._ends = None
        self.journal.close()

    def count(self, amounts: dict[str, float]) -> None:
        with self._lock:
            for key, amount in amounts.items():
                self.counts[key] = self.counts.get(key, 0) + amount

    def expect(self, total: int, more: bool = False) -> bool:
        """Note how many steps the whole training has (with `more`: beside those of another training in this run).

        Returns whether that contradicts, for the first time, what was said.
        """
        with self._lock:
            if more:
                total, before = total + self._total, 0
            else:
                before = self._total
            if before == total:
                return False
            self._total = total
            self.journal.event("total", steps=total)
            first, self._contradicted = not self._contradicted, self._contradicted or before > 0
            return first and before > 0

    def _follow_layers(self) -> None:
        """Time layers as soon as the program has PyTorch; we do not import it for it."""
        from energyprof.layers.arrival import when_torch_is_there
        from energyprof.layers.in_place import LayerTimer
        from energyprof.layers.schedule import schedule_of

        schedule = schedule_of(self._layers)
        if schedule is not None:
            self.timer = LayerTimer(self.folder, self._stem, schedule, self._device_of_layers)
            when_torch_is_there(self.timer.open)
            atexit.register(self.timer.close)

    def _device_of_layers(self, stem: str, journal: Journal) -> DeviceMarks | None:
        """What records the layers' events, where the program uses CUDA and wants its times."""
        torch = sys.modules.get("torch")
        if self._cuda == "off" or torch is None or not torch.cuda.is_initialized():
            return None
        from energyprof.cuda_calls import TorchCuda
        from energyprof.cuda_marks import DeviceMarks

        return DeviceMarks(self.folder, stem, journal, TorchCuda(torch))

    def _look_for_cuda(self) -> DeviceMarks | Waits | None:
        """What marks work on the GPU, from when the program itself has initialised CUDA; we never do."""
        torch = sys.modules.get("torch")
        begun = getattr(getattr(torch, "cuda", None), "is_initialized", None)
        recorder = self.recorder
        if begun is None or not begun():
            # Without CUDA in its torch a program need not be asked again.
            if torch is not None and getattr(getattr(torch, "version", None), "cuda", "") is None:
                recorder.look = None
            return None
        with self._lock:
            if recorder.look is None:
                return recorder.device
            recorder.look = None
            try:
                from energyprof.cuda_calls import TorchCuda
                from energyprof.cuda_marks import DeviceMarks, Waits

                cuda = TorchCuda(torch)
                events = DeviceMarks(self.folder, self._stem, self.journal, cuda)
                recorder.device = Waits(cuda) if self._cuda == "sync" else events
                if self.role == "joined":  # this process does not end the run; its last events are late
                    atexit.register(self._finish_device, _QUEUED_S)
            except Exception:  # a torch that we do not know
                self.journal.event("flag", flag=DEVICE_TIMES)
            return recorder.device

    def _finish_device(self, wait_s: float) -> None:
        look = self.recorder.look
        device = self.recorder.device or (look and look())
        if device:
            device.finish(wait_s)

    def _start_meter(self) -> None:
        try:
            Helper.tell(self.folder)
        except OSError:  # nothing can be spawned here
            from energyprof.inprocess import start_thread

            self.in_process = True
            start_thread(self.folder)

    def _stay_idle(self, seconds: float) -> None:
        """Wait beside the meter; all ranks of a group do, and the one that sees to the meter notes when.

        The meter's own start is work: the time is counted from when its file is there.
        """
        patience_ns = monotonic_ns() + _METER_STARTS_NS
        while not self.in_process and monotonic_ns() < patience_ns:
            if any(entry.startswith("meter.") for entry in os.listdir(self.folder)):
                break
            time.sleep(0.02)
        begun_ns = monotonic_ns()
        try:
            time.sleep(seconds)
        except BaseException:  # ^C while it waits: there is no run
            runfolder.leave(self.folder)
            if self.role == "own":
                runfolder.remove(self.folder)
            raise
        if self.role == "own":
            self.journal.event("baseline", begin=begun_ns, t=monotonic_ns())

    def _note_ends(self) -> None:
        from energyprof.ends import EndReader

        if self._ends is None:
            self._ends = EndReader()
        for name, before_ns, after_ns, value in self._ends.read():
            self.journal.event("end_read", channel=name, before=before_ns, after=after_ns, value=value)


# A process keeps one log and one set of path ids a run, however often it enters: sessions of runs that
# outlast a profile, by folder.
_lasting: dict[str, Session] = {}


def _lasting_session(folder: str, role: str, cuda: str, layers: str) -> Session:
    for old in [known for known in _lasting if not os.path.isdir(known)]:  # sealed and gone
        _lasting.pop(old).close()
    if folder not in _lasting:
        _lasting[folder] = Session(folder, role, cuda, layers)
    return _lasting[folder]


def _stem(folder: str) -> str:
    """This process in file names: its pid; and a number, where a process of that pid has been here (exec)."""
    pid, number = os.getpid(), 1
    stem = str(pid)
    while os.path.exists(os.path.join(folder, f"program.{stem}.log")):
        number += 1
        stem = f"{pid}_{number}"
    return stem


def rank_facts() -> dict[str, int]:
    """Rank, local rank and world size as the launcher tells them; empty outside one."""
    for names in _RANK_VARIABLES:
        values = [os.environ.get(name, "") for name in names]
        if values[0].isdigit() and values[3].isdigit() and int(values[3]) > 1:
            local = int(values[1]) if values[1].isdigit() else 0
            return {"rank": int(values[0]), "local_rank": local, "world_size": int(values[3])}
    return {}


def open_session(out: str, facts: dict[str, Any], cuda: str | None = None, layers: str = "") -> Session:
    """The session of this process: joined, of the group's run, or its own. OSError where `out` is closed.

    How regions are timed on a GPU, and which layers are, is for the program to say, then for who measures it.
    """
    outer = os.environ.get(runfolder.ENVIRONMENT)
    if outer and os.path.isfile(os.path.join(outer, "run.json")):
        said = runfolder.facts_of(outer)
        mode = cuda or said.get("cuda") or "events"
        return _lasting_session(outer, "joined", mode, layers or said.get("layers") or "")
    from energyprof.settings import CUDA_MODES, cuda_mode

    try:
        mode = cuda_mode(cuda)
    except ValueError:  # of the environment or pyproject.toml: no reason not to measure
        mode = CUDA_MODES[0]
    facts = {**facts, "cuda": mode}
    if rank_facts():
        folder, first = _group_folder(out, {**facts, "reopens": True})
        return _lasting_session(folder, "own" if first else "group", mode, layers)
    session = Session(runfolder.create(out, facts), "own", mode, layers)
    session.reopens = bool(facts.get("reopens"))
    return session


def _group_folder(out: str, facts: dict[str, Any]) -> tuple[str, bool]:
    """The folder that the ranks of this launch share on this node, and whether this rank made it."""
    import fcntl
    import hashlib
    import tempfile

    launch = [str(os.getppid()), _started(os.getppid()), out]
    launch += [
        os.environ.get(v, "") for v in ("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_PORT")
    ]
    key = hashlib.sha256("\0".join(launch).encode()).hexdigest()[:24]
    meeting = os.path.join(tempfile.gettempdir(), f"energyprof-{os.getuid()}")
    os.makedirs(meeting, mode=0o700, exist_ok=True)
    if os.stat(meeting).st_uid != os.getuid():
        raise PermissionError(f"{meeting} belongs to somebody else; set TMPDIR")
    _sweep(meeting)
    with open(os.path.join(meeting, key), "a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        folder = file.read().strip()
        first = not folder or not os.path.isfile(os.path.join(folder, "run.json"))
        if first:
            folder = runfolder.create(out, facts)
            file.truncate(0)
            file.write(folder)
            file.flush()
        runfolder.enter(folder)  # inside before the lock goes, so that nobody closes the run under us
        return folder, first


def _sweep(meeting: str) -> None:
    """Take away what launches of earlier days left."""
    for entry in os.scandir(meeting):
        if time.time() - entry.stat().st_mtime > _DAY_S:
            try:
                os.unlink(entry.path)
            except OSError:
                continue  # another rank was faster


def _started(pid: int) -> str:
    """When a process started, in clock ticks since boot: with the pid it names the process for good."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""
