"""Commands for processes of our own, started so that nothing of the user's folder is imported.

`python -m energyprof.x` would put the working directory on `sys.path`, and a `pickle.py` there would be
ours. `-c` with an explicit first entry does not; PYTHONPATH stays, since energyprof may be found by it.
"""

from __future__ import annotations

import errno
import os
import sys

_SHELL = "/bin/sh"
_PACKAGE_PARENT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def command(module: str, *arguments: str) -> list[str]:
    """The command that runs `main(arguments)` of an energyprof module; OSError where there is no Python."""
    return _python(f"import sys; {_run_main(module)}", arguments)


def daemon_command(module: str, *arguments: str) -> list[str]:
    """The same, in a process that is nobody's child: the one started makes it and leaves.

    A shell leaves a millisecond after it came, where there is one; an interpreter needs fifteen.
    """
    if os.access(_SHELL, os.X_OK):
        return [_SHELL, "-c", '"$@" &', "sh", *command(module, *arguments)]
    return _python(f"import os, sys; os.fork() and os._exit(0); {_run_main(module)}", arguments)


def _run_main(module: str) -> str:
    return f"sys.path[0] = {_PACKAGE_PARENT!r}; from {module} import main; sys.exit(main(sys.argv[1:]))"


def _python(code: str, arguments: tuple[str, ...]) -> list[str]:
    if not sys.executable or getattr(sys, "frozen", False):
        raise OSError("no Python interpreter to start (frozen program)")
    if not os.access(sys.executable, os.X_OK):  # a shell that starts it would not tell
        raise OSError(errno.ENOENT, "no Python interpreter to start", sys.executable)
    return [sys.executable, "-c", code, *arguments]


def environment() -> dict[str, str]:
    """The user's environment less what would make our process a profiled one or a many-threaded one."""
    from energyprof.runfolder import ENVIRONMENT

    kept = {key: value for key, value in os.environ.items() if key != ENVIRONMENT}
    kept.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    return kept
