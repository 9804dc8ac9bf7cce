"""Run a target under the meters, seal the run, and give back its figures with the program's exit code."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

from energyprof import runfolder, settings, siting
from energyprof.launch.supervise import supervise
from energyprof.launch.target import command_for, start_error
from energyprof.layers.schedule import schedule_of
from energyprof.spawn import command, environment

if TYPE_CHECKING:
    from energyprof.result import Result


_OURS = "energyprof: "  # what `tell` puts before a line
_PATIENT_S = 5.0  # who waits longer at a terminal is told for what


@dataclass(frozen=True)
class Measured:
    """A program that has run: its exit code (negative: the signal), its figures, and what went wrong."""

    code: int
    result: Result | None = None
    problem: str = ""


def measure(
    target: Sequence[str],
    *,
    module: bool = False,
    code: bool = False,
    out: str | None = None,
    name: str | None = None,
    tags: dict[str, str] | None = None,
    site: Mapping[str, Any] | None = None,
    baseline: float | None = None,
    tell: Callable[[str], None] = lambda text: None,
    cuda: str | None = None,
    live: bool = False,
    layers: bool | str = False,
    steps: int | str | None = None,
) -> Measured:
    """Run a target and measure it; see `energyprof run --help` for the parameters.

    `tell` is given one line before the program is made to wait.

    Inside a run that is measured already, this process becomes the target, and nothing returns.

    Raises
    ------
    TargetError, ValueError, OSError
        The target is not there, an option is wrong, or the dataset cannot be written; nothing has been
        started then.
    """
    baseline_s = settings.baseline_s(baseline)
    total = None if steps is None else settings.steps_total(_number(steps), "--steps")
    outer = os.environ.get(runfolder.ENVIRONMENT)
    if outer and os.path.isdir(outer):  # a run inside a run passes through: the outer meter reads
        become(command_for(target, module, code))
    told = siting.facts_of_run(dict(site or {}), lambda text: tell(f"warning: {text}"))
    full = command_for(target, module, code)
    facts = {
        "name": name or ("-c" if code else os.path.basename(target[0].rstrip("/")) or target[0]),
        "command": full,
        "cwd": _cwd(),
        "pid": os.getpid(),
        "supervised": True,
        "tags": tags or {},
        "site": told,
        "cuda": settings.cuda_mode(cuda),
        "layers": str(schedule_of(layers) or ""),
        "steps_total": total,
    }
    if baseline_s:
        tell(f"measuring the idle machine for {baseline_s:g} s before the program starts")
    outcome = supervise(full, settings.out_folder(out), facts, baseline_s, live)
    measured = _sealed(outcome.code, outcome.folder, tell)
    return replace(measured, problem=measured.problem or outcome.problem)


def become(command: list[str]) -> NoReturn:
    """Replace this process by the command: signals and exit status then need no hand of ours."""
    for name in ("SIGPIPE", "SIGXFSZ"):  # Python ignores these, and what is ignored is inherited
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
    try:
        os.execvp(command[0], command)
    except OSError as fault:
        raise start_error(command, fault) from None


def _number(text: int | str) -> float | str:
    """A command line's number; what is none as it was, to be named."""
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() else number


def _cwd() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None  # it has vanished


def _sealed(code: int, folder: str, tell: Callable[[str], None]) -> Measured:
    """Seal in a fresh process, so that what that costs is not the meter's memory, and read the figures."""
    why = _seal(folder, tell)
    if why:
        return Measured(
            code, problem=f"the run could not be sealed ({why}); {folder} is kept for `energyprof recover`"
        )
    from energyprof.result import stored

    facts = runfolder.facts_of(folder)
    runfolder.remove(folder)
    return Measured(code, stored(facts["out"], facts["run_id"]))


def _seal(folder: str, tell: Callable[[str], None]) -> str:
    """Why it could not be done; empty where it was."""
    try:
        sealer = subprocess.Popen(
            command("energyprof.seal", folder),
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
    except (
        OSError
    ) as fault:  # no more processes or files: the program's exit status is given back all the same
        return fault.strerror or str(fault)
    try:
        _, said = sealer.communicate(timeout=_PATIENT_S)
    except subprocess.TimeoutExpired:
        if os.isatty(2):
            tell("the program has ended; its run is being computed (^C leaves that to `energyprof recover`)")
        _, said = sealer.communicate()
    lines = said.strip().splitlines()
    if sealer.returncode != 0:
        return (lines or ["it was interrupted"])[-1]
    for line in lines:
        if line.startswith(f"{_OURS}warning: "):  # a file of prices that has gone, say
            tell(line.removeprefix(_OURS))
    return ""
