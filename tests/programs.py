"""Programs that tell how they were run, in how they behave: for the comparison with plain Python.

Each uses `with profile():`, which is nothing at all, or energyprof's; what it prints and how it ends must
not depend on that, nor on `energyprof run` around it.
"""

from __future__ import annotations

PLAIN = "from contextlib import nullcontext as profile\n"
PROFILED = "from energyprof import profile as _p; profile = lambda: _p('inside', quiet=True)\n"

# Name -> text; the ending is the exit status that plain Python is known to give.
PROGRAMS: dict[str, tuple[int, str]] = {
    "exception": (
        1,
        """
def inner(x):
    return 1 / x
with profile():
    inner(0)
""",
    ),
    "chained": (
        1,
        """
with profile():
    try:
        {}["a"]
    except KeyError as fault:
        raise ValueError("no a") from fault
""",
    ),
    "exit_number": (3, "import sys\nwith profile():\n    sys.exit(3)\n"),
    "exit_text": (1, "import sys\nwith profile():\n    sys.exit('so much for that')\n"),
    "exit_none": (0, "import sys\nwith profile():\n    sys.exit(None)\n"),
    "exit_tuple": (1, "import sys\nwith profile():\n    sys.exit((1, 2))\n"),
    "exit_hard": (4, "import os\nwith profile():\n    print('a', flush=True)\n    os._exit(4)\n"),
    "exit_hard_unflushed": (4, "import os\nwith profile():\n    print('lost')\n    os._exit(4)\n"),
    "base_exception": (
        1,
        """
class Mine(BaseException): pass
with profile():
    raise Mine("so")
""",
    ),
    "excepthook": (
        1,
        """
import sys
def hook(kind, value, trace):
    depth = 0
    while trace:
        depth, trace = depth + 1, trace.tb_next
    print("hook", kind.__name__, value, depth)
sys.excepthook = hook
with profile():
    raise RuntimeError("x")
""",
    ),
    "excepthook_fails": (
        1,
        """
import sys
def hook(*_): raise ValueError("in the hook")
sys.excepthook = hook
with profile():
    raise RuntimeError("x")
""",
    ),
    "thread_excepthook": (
        0,
        """
import threading
threading.excepthook = lambda args: print("thread", args.exc_type.__name__)
def work(): raise KeyError(1)
with profile():
    thread = threading.Thread(target=work); thread.start(); thread.join()
""",
    ),
    "atexit": (
        0,
        """
import atexit, pickle
class Thing:
    def __init__(self, x): self.x = x
atexit.register(lambda: print(pickle.loads(pickle.dumps(Thing(5))).x))
atexit.register(print, "first")
with profile():
    print("body")
""",
    ),
    "late_thread": (
        0,
        """
import pickle, threading, time
class Thing: pass
def late():
    time.sleep(0.4)
    print(type(pickle.loads(pickle.dumps(Thing()))).__module__)
with profile():
    threading.Thread(target=late).start()
print("main is over")
""",
    ),
    "daemon_thread": (
        0,
        """
import threading, time
with profile():
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print("ends at once")
""",
    ),
    "term": (-15, "import os, signal\nwith profile():\n    os.kill(os.getpid(), signal.SIGTERM)\n"),
    "int": (
        -2,
        "import os, signal, time\nwith profile():\n    os.kill(os.getpid(), signal.SIGINT); time.sleep(5)\n",
    ),
    "kill": (-9, "import os, signal\nwith profile():\n    os.kill(os.getpid(), signal.SIGKILL)\n"),
    "abort": (-6, "import os\nwith profile():\n    os.abort()\n"),
    "term_handled": (
        9,
        """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))
with profile():
    os.kill(os.getpid(), signal.SIGTERM)
""",
    ),
    "stop_and_go_on": (
        0,
        """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGCONT, lambda *_: print("continued"))
with profile():
    waker = "import os, signal, sys, time; time.sleep(0.4); os.kill(int(sys.argv[1]), signal.SIGCONT)"
    child = subprocess.Popen([sys.executable, "-c", waker, str(os.getpid())])
    os.kill(os.getpid(), signal.SIGSTOP)
    child.wait()
print("went on")
""",
    ),
    "handlers": (
        0,
        """
import signal, sys, threading, warnings, logging
with profile():
    print([str(signal.getsignal(n)) for n in sorted(signal.valid_signals()) if n not in (9, 19)])
    print(sys.gettrace(), sys.getprofile(), sys.excepthook is sys.__excepthook__, sys.stdout is sys.__stdout__)
    print(warnings.filters, logging.getLogger().handlers, signal.set_wakeup_fd(-1))
    print(sys.flags, sys.getswitchinterval(), sys.getrecursionlimit())
""",
    ),
    "descriptors": (
        0,
        """
import os, subprocess, sys
with profile():
    # What a child of the program inherits.
    subprocess.run(["ls", "/proc/self/fd"], close_fds=False)
    print(os.getcwd() == os.path.realpath(os.getcwd()), os.umask(0o22), os.getpgrp() == os.getpgid(0))
""",
    ),
    "environment": (
        0,
        """
import os, sys
known = {"_", "SHLVL", "ENERGYPROF_RUN"}
with profile():
    print(sorted((k, v) for k, v in os.environ.items() if k not in known))
    print(sys.argv, sys.path, sys.orig_argv[1:], sys.executable)
""",
    ),
    "pool_fork": (
        0,
        """
import multiprocessing as mp
def double(x): return 2 * x
if __name__ == "__main__":
    with profile(), mp.get_context("fork").Pool(2) as pool:
        print(pool.map(double, range(5)))
""",
    ),
    "pool_spawn": (
        0,
        """
import multiprocessing as mp
def double(x): return 2 * x
if __name__ == "__main__":
    with profile(), mp.get_context("spawn").Pool(2) as pool:
        print(pool.map(double, range(5)))
""",
    ),
    "process_exit_codes": (
        0,
        """
import multiprocessing as mp, os, sys
def end(how): how(7)
if __name__ == "__main__":
    with profile():
        for how in (sys.exit, os._exit):
            child = mp.get_context("fork").Process(target=end, args=(how,))
            child.start(); child.join(); print(child.exitcode)
""",
    ),
    "fork_and_wait": (
        0,
        """
import os, time
with profile():
    pid = os.fork()
    if pid == 0:
        print("child", flush=True)
        os._exit(5)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    try:
        os.waitpid(-1, 0)  # only the program's own children are its children
    except ChildProcessError:
        print("no more")
""",
    ),
    "fork_goes_on": (
        0,
        """
import os, sys
with profile():
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
print("parent" if pid else "child", flush=True)
""",
    ),
    "daemon": (
        0,
        """
import os, sys, time
with profile():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for fd in (0, 1, 2): os.close(fd)
            time.sleep(1.5)
            open("daemon.txt", "w").write("done")
            os._exit(0)
        os._exit(0)
    os.wait()
print("launched")
""",
    ),
    "loader": (
        0,
        """
import torch
from torch.utils.data import DataLoader, TensorDataset
if __name__ == "__main__":
    torch.manual_seed(0)
    data = TensorDataset(torch.arange(64.0))
    with profile():
        total = sum(batch[0].sum().item() for batch in DataLoader(data, batch_size=8, num_workers=2))
    print(total, torch.initial_seed())
""",
    ),
    "stdin": (
        0,
        """
import sys
with profile():
    print(repr(sys.stdin.read()), sys.stdin.isatty(), sys.stdout.encoding)
""",
    ),
    "binary": (0, "import os\nwith profile():\n    os.write(1, bytes(range(256))); os.write(2, b'err\\n')\n"),
    "own_pickle": (
        0,
        """
import pickle, os
with profile():
    print(pickle.MINE, os.path.basename(pickle.__file__))
""",
    ),
    "vanished": (
        0,
        """
import os, tempfile, shutil
with profile():
    folder = tempfile.mkdtemp(); os.chdir(folder); os.rmdir(folder)
    try:
        os.getcwd()
    except FileNotFoundError:
        print("gone")
""",
    ),
    "closed_streams": (
        0,
        """
import os, sys
with profile():
    print("before", flush=True)
    os.close(2)
""",
    ),
    "generator_left_open": (
        0,
        """
def numbers():
    with profile():
        try:
            yield 1
        finally:
            print("closed")
g = numbers(); print(next(g)); del g
""",
    ),
    "asyncio": (
        0,
        """
import asyncio
async def main():
    with profile():
        await asyncio.gather(*(asyncio.sleep(0.01) for _ in range(5)))
        return threads
import threading
threads = threading.active_count()
print(asyncio.run(main()), threading.active_count())
""",
    ),
    "random": (
        0,
        """
import random
random.seed(1); before = random.getstate()
with profile():
    print(random.getstate() == before)
print(random.random())
""",
    ),
    "locale_and_precision": (
        0,
        """
import decimal, gc, locale, sys
with profile():
    print(locale.getlocale(), decimal.getcontext().prec, gc.isenabled(), gc.get_threshold(), 0.1 + 0.2)
""",
    ),
    "deep_recursion": (
        1,
        """
def down(n): return down(n + 1)
with profile():
    try:
        down(0)
    except RecursionError as fault:
        raise SystemExit(str(fault)[:40])
""",
    ),
}
