"""A process in our group that only waits, and knows two things that we cannot.

Did a signal come to us alone, or to the whole group? The kernel does not say to whom a signal was sent.
But one that went to the process group (a shell's `kill -- -PGID`, a scheduler that ends a job, systemd
that ends a unit) has reached the program as well, and must not be handed on a second time: the program
might take it for "now, at once". So a fork of ours stays in the group with all signals blocked; what is
pending there was sent to the group.

And: when a stopped program stopped us too, has somebody let it go on alone? Then we are woken.
"""

from __future__ import annotations

import os
import re
import select
import signal
import struct
import time

_DELIVERED_S = (
    0.02  # a group is signalled process by process, within microseconds; by a scheduler, milliseconds
)
_GLANCE_S = 0.02
_TOLD = struct.Struct("<q")  # a signal's number, or a process's: no program has so small a one


class Witness:
    """Fork that process, before any thread is started; it ends with us, however we end."""

    def __init__(self) -> None:
        inbox, self._life = os.pipe()
        # Blocked before it is there: a handler of ours must not run in the fork, nor a signal end it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            self._pid = os.fork()
            if self._pid == 0:
                _wait_to_the_end(inbox, self._life)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(inbox)

    def saw(self, number: int) -> bool:
        """Whether the signal that we got came to the whole group; it is forgotten then."""
        time.sleep(_DELIVERED_S)
        pending = self._pending() >> (number - 1) & 1
        if pending:
            self._write(number)
        return bool(pending)

    def stop_with(self, pid: int) -> None:
        """Stop this process until it is continued, or the program is."""
        self._write(pid)
        os.kill(os.getpid(), signal.SIGSTOP)

    def close(self) -> None:
        """Let it go."""
        if self._life >= 0:
            os.close(self._life)
            self._life = -1
            try:
                deadline = time.monotonic() + 1.0
                while os.waitpid(self._pid, os.WNOHANG)[0] == 0:
                    if time.monotonic() > deadline:  # somebody stopped it
                        os.kill(self._pid, signal.SIGKILL)
                        os.waitpid(self._pid, 0)
                        return
                    time.sleep(0.001)
            except ChildProcessError:
                pass  # reaped with the others

    def _pending(self) -> int:
        try:
            with open(f"/proc/{self._pid}/status", encoding="ascii", errors="replace") as file:
                found = re.findall(r"^S(?:hd|ig)Pnd:\s*([0-9a-f]+)", file.read(), re.MULTILINE)
        except OSError:
            return 0  # somebody ended it: then every signal is handed on
        return int(found[0], 16) | int(found[-1], 16) if found else 0

    def _write(self, told: int) -> None:
        try:
            os.write(self._life, _TOLD.pack(told))
        except OSError:
            pass


def stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"T"
    except OSError:
        return False


def _wait_to_the_end(inbox: int, life: int) -> None:
    """In the fork: until the pipe ends, signals to forget and a stopped program to watch. Never returns."""
    try:
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):  # who reads our output must not wait for this process
            os.dup2(nowhere, descriptor)
        os.close(life)
        while told := os.read(inbox, _TOLD.size):
            (number,) = _TOLD.unpack(told)
            if number in signal.valid_signals():
                signal.sigtimedwait([number], 0)
            else:
                _wake_parent_with(number, inbox)
    finally:
        os._exit(0)


def _wake_parent_with(pid: int, inbox: int) -> None:
    parent = os.getppid()
    for _ in range(100):  # it is about to stop
        if stopped(parent):
            break
        if select.select([inbox], [], [], _GLANCE_S)[0]:
            return  # it was let go on before we saw it stopped, and says more, or has ended
    while stopped(parent):
        if not stopped(pid):
            os.kill(parent, signal.SIGCONT)
        time.sleep(_GLANCE_S)
