"""CPU time of one program: a process, its threads, and its descendants.

The kernel keeps, for each process, its own time and that of its children that ended and were waited for;
the sum over the living tree therefore keeps what ended children used. Limits: a process that leaves the
tree (its parent died, or ignores SIGCHLD) takes its time along, and what it uses later is not seen; time
comes in clock ticks (10 ms).
"""

from __future__ import annotations

import os

from energyprof.collectors.cpu_facts import read_text


class ProgramTime:
    """Cumulative CPU time of the tree below a process.

    Parameters
    ----------
    pid
        The program's first process.
    proc_root
        Where /proc is; it must be of the PID namespace that `pid` is from.
    without
        A process to leave out with its descendants: the meter itself, where the program started it.
    """

    def __init__(self, pid: int, proc_root: str, without: int | None = None) -> None:
        self._pid = pid
        self._root = proc_root
        self._without = None if without == pid else without
        self._us_a_tick = 1_000_000 // os.sysconf("SC_CLK_TCK")
        self._born = _fields(f"{proc_root}/{pid}/stat")[19:20]
        self._last = 0
        self._gone = 0

    def read_us(self) -> int | None:
        """µs of CPU time so far, never less than before; None once the program has gone."""
        fields = _fields(f"{self._root}/{self._pid}/stat")
        if not fields or fields[19:20] != self._born:  # start time: the number may have been given to another
            return None
        ticks = self._tree(self._pid, fields, {self._pid})
        if ticks + self._gone < self._last:  # a child may have ended between its parent's read and its own
            again = _fields(f"{self._root}/{self._pid}/stat")
            ticks = self._tree(self._pid, again, {self._pid}) if again else ticks
        # A process that left the tree must not make time run backwards: keep what it had used.
        self._gone += max(0, self._last - (ticks + self._gone))
        self._last = ticks + self._gone
        return self._last * self._us_a_tick

    def _tree(self, pid: int, fields: list[str], seen: set[int]) -> int:
        total = sum(int(field) for field in fields[11:15])  # utime, stime, cutime, cstime
        for child in self._children(pid):
            if child == self._without or child in seen:
                continue
            seen.add(child)
            of_child = _fields(f"{self._root}/{child}/stat")
            if of_child:
                total += self._tree(child, of_child, seen)
        return total

    def _children(self, pid: int) -> list[int]:
        """Children are listed by the thread that made them (the kernel needs CONFIG_PROC_CHILDREN)."""
        folder = f"{self._root}/{pid}/task"
        try:
            threads = os.listdir(folder)
        except OSError:
            return []
        lists = (read_text(f"{folder}/{thread}/children") for thread in threads)
        return [int(child) for text in lists if text for child in text.split()]


def _fields(path: str) -> list[str]:
    """The fields of a stat file from the third (state) on: the second, the name, may hold blanks."""
    text = read_text(path)
    return text.rpartition(")")[2].split() if text else []


def is_below(pid: int, ancestor: int, proc_root: str) -> bool:
    """Whether a process is another one or descends from it."""
    seen: set[int] = set()
    while pid > 0 and pid not in seen:
        if pid == ancestor:
            return True
        seen.add(pid)
        parent = _fields(f"{proc_root}/{pid}/stat")[1:2]
        pid = int(parent[0]) if parent else 0
    return False
