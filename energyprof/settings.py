"""Where runs go and what holds for all of them: argument, then environment, then pyproject.toml."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DEFAULT_OUT = "energyprof-runs"
_FILE = re.compile(r"\.(csv|parquet|pq)(\s|$)", re.IGNORECASE)
SHORTEST_BASELINE_S, LONGEST_BASELINE_S = 1.0, 600.0
MOST_STEPS = 1e12  # more is a slip: a million steps a second for eleven days
_VARIABLE = "ENERGYPROF_"
_SITE = ("country", "intensity", "pue", "wue", "price")
_TOLD = ("out", *_SITE, "cuda", "peak_tflops")  # by a variable or in pyproject.toml
_VARIABLES = (*_TOLD, "cache", "sys_root", "proc_root", "run")
CUDA_MODES = ("events", "sync", "off")


def out_folder(out: str | os.PathLike[str] | None = None) -> str:
    """The absolute path of the dataset: `out`, else ENERGYPROF_OUT, else [tool.energyprof] out, else
    `./energyprof-runs`."""
    chosen = os.fspath(out) if out is not None else os.environ.get("ENERGYPROF_OUT") or ""
    if not chosen:
        folder, table = _project()
        value = table.get("out")
        chosen = os.path.join(folder, value) if isinstance(value, str) and value else DEFAULT_OUT
    try:
        return os.path.abspath(os.path.expanduser(chosen))
    except FileNotFoundError as fault:
        raise FileNotFoundError(fault.errno, "the working directory has vanished", ".") from None


def site(said: Mapping[str, Any]) -> dict[str, Any]:
    """Where the electricity is from and what it costs: as `said`, else ENERGYPROF_COUNTRY and so on, else
    [tool.energyprof]. Names as in `energyprof.carbon.site.SAID`; nothing is checked here.

    Country and intensity belong together: who says one of them says both, but for a file of intensities or a
    live source, to which the country may come from elsewhere.
    """
    levels: list[Mapping[str, Any]] = [
        said,
        {name: os.environ.get(f"ENERGYPROF_{name.upper()}") or None for name in _SITE},
        _beside(*_project()),
    ]
    found: dict[str, Any] = {}
    for level in levels:
        told = {name: level[name] for name in _SITE if level.get(name) is not None}
        if "intensity" in found and ("country" in found or not _by_time(found["intensity"])):
            told.pop("country", None)
        if "country" in found or "intensity" in found:
            told.pop("intensity", None)
        found = {**told, **found}
    return found


def _beside(folder: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """What a project says, its files of intensities and prices where the project is."""
    told = dict(table)
    for name in ("intensity", "price"):
        if isinstance(value := told.get(name), str) and _FILE.search(value):
            told[name] = os.path.join(folder, os.path.expanduser(value.strip()))
    return told


def _by_time(intensity: Any) -> bool:
    """Whether it is a file or a source, which needs a place besides, and no number."""
    try:
        float(intensity)
    except (TypeError, ValueError):
        return True
    return False


def baseline_s(seconds: float | None) -> float:
    """How long to look at the idle machine first, in seconds; 0 for not at all.

    Raises
    ------
    ValueError
        Too short to say anything (below 1 s), or longer than ten minutes.
    """
    if seconds is None:
        return 0.0
    try:
        value = float("nan") if isinstance(seconds, bool) else float(seconds)
    except (TypeError, ValueError):
        value = float("nan")
    if not SHORTEST_BASELINE_S <= value <= LONGEST_BASELINE_S:
        limits = f"{SHORTEST_BASELINE_S:g} to {LONGEST_BASELINE_S:g}"
        raise ValueError(f"baseline is {str(seconds)[:40]!r}; give {limits} seconds (5 is a good start)")
    return value


def steps_total(total: Any, name: str = "total") -> int:
    """The number of steps that a whole training has.

    Raises
    ------
    ValueError
        What was said is no whole number from 1 to a trillion.
    """
    try:
        value = float("nan") if isinstance(total, (bool, str)) else float(total)
    except (TypeError, ValueError, OverflowError):
        value = float("nan")
    if not (1 <= value <= MOST_STEPS and value == int(value)):
        said = str(total)[:40]
        raise ValueError(f"{name} is {said!r}; give the number of steps of the whole training, such as 10000")
    return int(value)


def finite(values: Mapping[str, Any], warn: Callable[[str], None]) -> dict[str, float]:
    """What of a program's figures can be stored and compared; the rest is named and left out."""
    kept: dict[str, float] = {}
    for key, value in values.items():
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = float("nan")
        if -float("inf") < number < float("inf"):
            kept[key] = number
        else:
            warn(f"{key}={value!r} is no finite number and is left out")
    return kept


def cuda_mode(cuda: str | None = None) -> str:
    """How regions are timed on a GPU: `cuda`, else ENERGYPROF_CUDA, else [tool.energyprof] cuda, else
    `events`. ValueError where it is none of CUDA_MODES."""
    chosen: Any = cuda or os.environ.get("ENERGYPROF_CUDA") or _project()[1].get("cuda") or CUDA_MODES[0]
    if chosen not in CUDA_MODES:
        raise ValueError(f"cuda is {chosen!r}; say events, sync or off")
    return str(chosen)


def peak_tflops(tflops: float | None = None) -> float | None:
    """The peak of the device in TFLOP/s, where the user says one: `tflops`, else ENERGYPROF_PEAK_TFLOPS, else
    [tool.energyprof] peak_tflops; None where nobody did.

    Raises
    ------
    ValueError
        What was said is no positive finite number.
    """
    told: Any = tflops if tflops is not None else os.environ.get("ENERGYPROF_PEAK_TFLOPS") or None
    if told is None:
        told = _project()[1].get("peak_tflops")
    if told is None:
        return None
    try:
        value = float("nan") if isinstance(told, bool) else float(told)
    except (TypeError, ValueError):
        value = float("nan")
    if not 0 < value < float("inf"):
        raise ValueError(
            f"peak_tflops is {str(told)[:40]!r}; give the device's dense TFLOP/s (312 for an A100's bf16)"
        )
    return value


def _project() -> tuple[str, dict[str, Any]]:
    """The nearest pyproject.toml at or above the working directory, and its [tool.energyprof]."""
    try:
        folder = os.getcwd()
    except OSError:
        return ".", {}  # the working directory has vanished
    while True:
        path = os.path.join(folder, "pyproject.toml")
        if os.path.isfile(path):
            return folder, _table(path)
        parent = os.path.dirname(folder)
        if parent == folder:
            return folder, {}
        folder = parent


def complaints() -> list[str]:
    """What was said that nobody will follow, a line each: names of variables that are nearly ours, and of
    [tool.energyprof] what is no TOML at all and names that mean nothing."""
    return [*_misspelt(), *_of_project()]


def _misspelt() -> list[str]:
    strange = [
        name
        for name in os.environ
        if name.startswith(_VARIABLE) and name[len(_VARIABLE) :].lower() not in _VARIABLES
    ]
    if not strange:
        return []
    from difflib import get_close_matches

    found = [
        (name, get_close_matches(name[len(_VARIABLE) :].lower(), _VARIABLES, 1, 0.7)) for name in strange
    ]
    return [f"{name} means nothing; {_VARIABLE}{near[0].upper()} does" for name, near in found if near]


def _of_project() -> list[str]:
    folder, table = _project()
    path = os.path.join(folder, "pyproject.toml")
    text = _text(path)
    if not table and "[tool.energyprof]" in text and _parsed(text) is None:
        return [f"{path} is no TOML: its [tool.energyprof] is left out"]
    unknown = [str(name) for name in table if name not in _TOLD]
    return [f"[tool.energyprof] {name} means nothing; {', '.join(_TOLD)} do" for name in unknown]


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError):
        return ""


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib  # pyright: ignore[reportMissingImports]
    try:
        found: dict[str, Any] = tomllib.loads(text)
        return found
    except ValueError:
        return None


def _table(path: str) -> dict[str, Any]:
    text = _text(path)
    if "[tool.energyprof]" not in text:  # spare most programs the parser
        return {}
    tool = (_parsed(text) or {}).get("tool", {})
    table = tool.get("energyprof", {}) if isinstance(tool, dict) else {}
    return table if isinstance(table, dict) else {}
