"""Did a signal come to us alone, or to the whole group? A process in the group that only waits can tell.

The kernel does not say to whom a signal was sent. But one that went to the process group (a shell's
`kill -- -PGID`, a scheduler that ends a job, systemd that ends a unit) has reached the program as well,
and must not be handed on a second time: the program might take it for "now, at once". So a fork of ours
stays in the group with these signals blocked; what is pending there was sent to the group.
"""

from __future__ import annotations

import os
import re
import signal
import time

_DELIVERED_S = (
    0.02  # a group is signalled process by process, within microseconds; by a scheduler, milliseconds
)


class Witness:
    """Fork the process that waits; it ends with us, however we end.

    Call before any thread is started.
    """

    def __init__(self) -> None:
        inbox, self._life = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _wait_to_the_end(inbox, self._life)
        os.close(inbox)

    def saw(self, number: int) -> bool:
        """Whether the signal that we got came to the whole group; it is forgotten then."""
        time.sleep(_DELIVERED_S)
        pending = self._pending() >> (number - 1) & 1
        if pending:
            self._write(bytes([number]))
        return bool(pending)

    def close(self) -> None:
        """Let it go."""
        if self._life >= 0:
            os.close(self._life)
            self._life = -1
            try:
                os.waitpid(self._pid, 0)
            except ChildProcessError:
                pass  # reaped with the others

    def _pending(self) -> int:
        try:
            with open(f"/proc/{self._pid}/status", encoding="ascii", errors="replace") as file:
                found = re.findall(r"^S(?:hd|ig)Pnd:\s*([0-9a-f]+)", file.read(), re.MULTILINE)
        except OSError:
            return 0  # somebody ended it: then every signal is handed on
        return int(found[0], 16) | int(found[-1], 16) if found else 0

    def _write(self, told: bytes) -> None:
        try:
            os.write(self._life, told)
        except OSError:
            pass


def _wait_to_the_end(inbox: int, life: int) -> None:
    """In the fork: sleep until the pipe ends; a byte is a signal to forget. Never returns."""
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):  # who reads our output must not wait for this process
            os.dup2(nowhere, descriptor)
        os.close(life)
        while told := os.read(inbox, 1):
            signal.sigtimedwait(list(told), 0)
    finally:
        os._exit(0)
