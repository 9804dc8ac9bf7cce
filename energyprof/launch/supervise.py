"""The parent of a measured program: starts it unmodified, reads the meters while it runs, and ends as it ended.

The program stays in our process group and keeps the terminal, so a signal from the keyboard reaches both:
we must survive it to write the record, and the program must see the disposition it would have seen.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic_ns
from types import FrameType
from typing import Any

from energyprof import runfolder
from energyprof.collectors.base import Context
from energyprof.collectors.registry import discover
from energyprof.folding import Folding
from energyprof.helper import LINGER_NS, TICKS_AFTER, TICKS_TO_LEARN, roots
from energyprof.journal import Journal
from energyprof.launch.target import TargetError, start_error
from energyprof.launch.witness import Witness, stopped
from energyprof.meter import Meter, Syncer
from energyprof.spawn import command as spawned
from energyprof.spawn import environment

_NS = 1_000_000_000
# The terminal sends these to the whole group: the program has its own copy (and stops us if it stops).
_FROM_TERMINAL = ("SIGINT", "SIGQUIT", "SIGTSTP")
_FIRST = os.getpid() == 1
_FORWARDED = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")


@dataclass(frozen=True)
class Outcome:
    """How the program ended: its exit code, negative for a signal; the run's folder to seal; a fault of ours."""

    code: int
    folder: str
    problem: str = ""


def supervise(
    command: Sequence[str], out: str, facts: Mapping[str, Any], baseline_s: float = 0.0, live: bool = False
) -> Outcome:
    """Run `command` with the meters on, after `baseline_s` seconds in which they see the machine without it.

    With `live`, a line on the terminal tells how it goes, where stderr is one.

    Raises
    ------
    OSError
        The dataset's folder cannot be written; the program has not been started.
    TargetError
        The program could not be started.
    """
    folder = runfolder.create(out, dict(facts))
    try:
        return _Supervisor(folder).run(list(command), baseline_s, live)
    except (TargetError, OSError, KeyboardInterrupt):  # nothing has been started: see `run`
        runfolder.remove(folder)
        raise


# Its sitecustomize waits in the program for torch, to follow its layers.
_STARTUP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "startup")


class _Supervisor:
    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None
        self._code: int | None = None
        self._witness: Witness | None = None
        self._early: list[int] = []  # signals that came before there was a program
        self._wake, self._woken = os.pipe()
        os.set_blocking(self._woken, False)

    def run(self, command: list[str], baseline_s: float, live: bool) -> Outcome:
        self._witness = _witness()
        meter = Meter(discover(), Context(environ=os.environ, pid=os.getpid(), **roots()))
        journal = Journal(os.path.join(self._folder, f"meter.{os.getpid()}.log"))
        meter.attach(journal)
        if baseline_s > 0:
            self._look_at_idle(meter, journal, baseline_s)
        self._handle_signals()
        meter.read_all()
        begun_ns = monotonic_ns()
        self._child = self._start(command)
        self._forward_early()
        _note(journal, "spawned", t=begun_ns, pid=self._child.pid)
        line = _LiveLine(self._folder) if live and os.isatty(2) else None
        problem = ""
        try:
            self._measure(meter, journal)
        except Exception as fault:  # of ours, whatever it is: the program goes on, and how it ends is told
            problem = f"the metering ended early: {fault!r}"
            self._wait_for_its_end(journal)
        if line is not None:
            line.close()
        meter.detach(journal)
        _note(journal, "closed", t=monotonic_ns())
        meter.close()
        if self._witness is not None:
            self._witness.close()
        assert self._code is not None
        return Outcome(self._code, self._folder, problem)

    def _measure(self, meter: Meter, journal: Journal) -> None:
        """Read the meters until the program has ended and the ticks around its end are known."""
        syncer = Syncer(meter)
        syncer.start()
        folding = Folding(self._folder)
        while self._code is None:
            self._wait(meter.next_due_ns())
            meter.read_due()
            folding.look(monotonic_ns())
            self._look_at_child()
            if _FIRST and self._code is None and not folding.busy(monotonic_ns()):
                self._reap_orphans()
        _note(journal, "exited", t=monotonic_ns(), code=self._code)
        meter.read_all()
        self._linger(meter)
        while folding.busy(monotonic_ns()):
            self._wait(monotonic_ns() + _NS // 20)
        syncer.stop()

    def _wait_for_its_end(self, journal: Journal) -> None:
        if self._code is None:
            while self._code is None:
                self._wait(monotonic_ns() + _NS)
                self._look_at_child()
            _note(journal, "exited", t=monotonic_ns(), code=self._code)

    def _look_at_idle(self, meter: Meter, journal: Journal, seconds: float) -> None:
        """Read the meters while nothing runs; signals are still as they were, so that ^C ends it all."""
        meter.read_all()
        begun_ns = monotonic_ns()
        until_ns = begun_ns + int(seconds * _NS)
        while monotonic_ns() < until_ns:
            self._wait(min(meter.next_due_ns(), until_ns))
            meter.read_due()
        _note(journal, "baseline", begin=begun_ns, t=monotonic_ns())

    def _start(self, command: list[str]) -> subprocess.Popen[bytes]:
        environment = {**os.environ, runfolder.ENVIRONMENT: self._folder}
        if runfolder.facts_of(self._folder).get("layers"):
            environment["PYTHONPATH"] = os.pathsep.join(
                [_STARTUP, *filter(None, [os.environ.get("PYTHONPATH")])]
            )
        try:
            return subprocess.Popen(command, env=environment, close_fds=False)
        except OSError as fault:
            raise start_error(command, fault) from None

    def _handle_signals(self) -> None:
        signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, _do_nothing)
        for name in _FROM_TERMINAL:
            # What came ignored stays so (nohup, a shell's background job): the child inherits it.
            if signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN:
                signal.signal(getattr(signal, name), _do_nothing)
        for name in _FORWARDED:
            if signal.getsignal(getattr(signal, name)) is not signal.SIG_IGN:
                signal.signal(getattr(signal, name), self._forward)

    def _forward(self, number: int, frame: FrameType | None) -> None:
        if self._child is None:
            self._early.append(number)
        elif self._code is None and not (self._witness is not None and self._witness.saw(number)):
            self._send(number)

    def _forward_early(self) -> None:
        """What came while the program was being started, to us or to all, did not reach it."""
        for number in self._early:
            if self._witness is not None:
                self._witness.saw(number)  # the next one is told apart anew
            self._send(number)

    def _send(self, number: int) -> None:
        """From a signal's handler too: it must not raise where we happen to be."""
        assert self._child is not None
        try:
            os.kill(self._child.pid, number)
        except OSError:
            pass  # it has just ended, or is another user's by now (sudo)

    def _wait(self, until_ns: int) -> None:
        timeout = max(0.0, (until_ns - monotonic_ns()) / _NS)
        if select.select([self._wake], [], [], timeout)[0]:
            os.read(self._wake, 4096)

    def _look_at_child(self) -> None:
        assert self._child is not None
        what = os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WSTOPPED | os.WCONTINUED | os.WNOHANG)
        if what is None:
            return
        if what.si_code in (os.CLD_EXITED, os.CLD_KILLED, os.CLD_DUMPED):
            self._code = what.si_status if what.si_code == os.CLD_EXITED else -what.si_status
            self._child.returncode = self._code
        elif what.si_code == os.CLD_STOPPED:
            # The shell watches us: stop too, and let the program go on when we are continued.
            if self._witness is not None:
                self._witness.stop_with(self._child.pid)
            else:
                os.kill(os.getpid(), signal.SIGSTOP)
            if stopped(self._child.pid):
                self._send(signal.SIGCONT)

    def _reap_orphans(self) -> None:
        """As the first process of a container we inherit whoever has lost its parent."""
        assert self._child is not None
        while what := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if what.si_pid == self._child.pid:
                return  # it has ended; what else there is goes with the container
            os.waitpid(what.si_pid, os.WNOHANG)

    def _linger(self, meter: Meter) -> None:
        """Stay until the ticks around the program's end are known."""
        ticks = meter.ticks_seen()
        if ticks is None:
            return
        wanted, limit = max(ticks + TICKS_AFTER, TICKS_TO_LEARN), monotonic_ns() + LINGER_NS
        while (meter.ticks_seen() or 0) < wanted and monotonic_ns() < limit:
            self._wait(min(meter.next_due_ns(), limit))
            meter.read_due()


class _LiveLine:
    """The process that writes the line, and the end of both."""

    def __init__(self, folder: str) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._process = subprocess.Popen(
                spawned("energyprof.live", folder),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment(),
            )
        except OSError:
            pass  # the run goes on without it

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            try:
                os.write(2, b"\r\x1b[2K")
            except OSError:
                pass


def _witness() -> Witness | None:
    """None where no process can be made; a signal to the group then comes twice, as it does by other tools."""
    try:
        return Witness()
    except OSError:
        return None


def _note(journal: Journal, event: str, **facts: Any) -> None:
    """A full disk costs the record, never the program; sealing then says what is missing."""
    try:
        journal.event(event, **facts)
    except OSError:
        pass


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """A handler, not SIG_IGN: an ignored signal would be inherited by the program."""


def end_like(code: int) -> int:
    """The exit status for the program's; where a signal ended it, we die by the same one."""
    if code >= 0:
        return code
    number = -code
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the core that matters is the program's
        signal.set_wakeup_fd(-1)
        signal.signal(number, signal.SIG_DFL)
    except (ImportError, OSError, ValueError):
        pass  # SIGKILL and SIGSTOP have no handler to reset
    os.kill(os.getpid(), number)
    return 128 + number
