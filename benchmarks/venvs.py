"""A virtual environment for each peer, made when it is first needed: no tool meets the libraries of another."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

# The releases that were compared; nvidia-ml-py is what all of them read NVML with.
PINS = {
    "zeus": ("zeus==0.16.0", "nvidia-ml-py==13.615.71"),
    "codecarbon": ("codecarbon==3.3.2", "nvidia-ml-py==13.615.71"),
    "carbontracker": ("carbontracker==2.4.7", "nvidia-ml-py==13.615.71"),
    "two reads": ("nvidia-ml-py==13.615.71",),
}
_PACKAGE = {"zeus approx": "zeus"}


def python_of(tool: str, folder: Path) -> str:
    """The interpreter of a tool's environment; our own for energyprof.

    Raises
    ------
    OSError
        The environment could not be made; the message says why, in one line.
    """
    if tool == "energyprof":
        return sys.executable
    name = _PACKAGE.get(tool, tool)
    place = folder / name.replace(" ", "-")
    python = place / "bin/python"
    done = place / "pinned.txt"
    wanted = "\n".join(PINS[name])
    if done.exists() and done.read_text() == wanted:
        return str(python)
    venv.create(place, with_pip=True, clear=True)
    installed = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", *PINS[name]],
        capture_output=True,
        text=True,
        check=False,
    )
    if installed.returncode != 0:
        raise OSError((installed.stderr.strip().splitlines() or ["pip failed"])[-1][:200])
    done.write_text(wanted)
    return str(python)


def default_folder() -> Path:
    """Where environments are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "energyprof-benchmarks"


def torch_alone(folder: Path) -> Path:
    """A folder of links to our torch and what it requires: a peer's environment need not have its own gigabyte.

    Raises
    ------
    OSError
        There is no torch here.
    """
    todo, seen = ["torch"], set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            if name == "torch":
                raise OSError("torch is not installed beside this script") from None
            continue  # required elsewhere (another system, another Python)
        for top in {path.parts[0] for path in found.files or ()} - {"..", "__pycache__"}:
            link = folder / top
            if not link.exists():
                link.symlink_to(Path(str(found.locate_file(top))))
        wanted = [text for text in found.requires or () if "extra ==" not in text]
        todo += [match[0] for text in wanted if (match := re.match(r"[A-Za-z0-9._-]+", text))]
    return folder
