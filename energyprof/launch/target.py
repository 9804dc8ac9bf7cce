"""What `energyprof run` is asked to run, as the command that a shell would have run."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence


class TargetError(Exception):
    """The target cannot be started; `code` is what a shell would answer (127 not found, 126 not executable)."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def command_for(arguments: Sequence[str], module: bool = False, code: bool = False) -> list[str]:
    """The command line of a target: `script.py args`, `-m module args`, `-c code args`, `command args`.

    Raises
    ------
    TargetError
        There is no such script or command, or it may not be executed.
    """
    target, *rest = arguments
    if module or code:
        return [sys.executable, "-m" if module else "-c", target, *rest]
    if os.path.isfile(os.path.join(target, "__main__.py")):
        return [sys.executable, target, *rest]
    if target.endswith((".py", ".pyz", ".pyw")):
        if not os.path.isfile(target):
            raise TargetError(127, f"no script {target}; check the path (the working directory is {_cwd()})")
        if not os.access(target, os.R_OK):
            raise TargetError(126, f"{target} may not be read; check its permissions")
        return [sys.executable, target, *rest]
    if shutil.which(target):
        return [target, *rest]
    if os.path.isdir(target):
        raise TargetError(126, f"{target} is a folder without a __main__.py")
    if os.path.isfile(target):
        raise TargetError(126, f"{target} is not executable; try `chmod +x` or name its interpreter")
    raise TargetError(127, f"{target} is neither a .py script nor a command on PATH")


def start_error(command: Sequence[str], fault: OSError) -> TargetError:
    """Why the kernel would not start a command."""
    found = not isinstance(fault, FileNotFoundError)
    return TargetError(126 if found else 127, f"{command[0]}: {fault.strerror}")


def _cwd() -> str:
    try:
        return os.getcwd()
    except OSError:
        return "gone"
