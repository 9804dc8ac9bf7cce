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
    "calflops": ("calflops==0.3.2", "accelerate==1.15.0", "psutil==7.2.2"),
    "deepspeed": (
        "deepspeed==0.19.8",
        "einops==0.8.2",
        "hjson==3.1.0",
        "msgpack==1.2.4",
        "ninja==1.13.2",
        "psutil==7.2.2",
        "py-cpuinfo==9.0.0",
        "pydantic==2.14.3",
        "pydantic-core==2.50.4",
        "annotated-types==0.8.0",
        "typing-inspection==0.4.5",
    ),
    "ptflops": ("ptflops==0.7.5",),
    "thop": ("thop==0.1.1.post2209072238",),
    "torchinfo": ("torchinfo==1.8.0",),
    "timm": ("timm==1.0.31", "pillow==13.0.0"),
}
_PACKAGE = {"zeus approx": "zeus", "ptflops aten": "ptflops"}
# Those that require torch are installed without what they require: ours is lent to them, of the same release.
_BORROWS = ("calflops", "deepspeed", "ptflops", "thop", "torchinfo", "timm")
# DeepSpeed compiles nothing and looks for no GPU (its own settings).
_SETTINGS = {"DS_BUILD_OPS": "0", "DS_ACCELERATOR": "cpu"}


def pins(tool: str) -> tuple[str, ...]:
    """What is installed for a tool, its own release first."""
    return PINS[_PACKAGE.get(tool, tool)]


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
        [
            str(python), "-m", "pip", "install", "--quiet", *(["--no-deps"] if name in _BORROWS else []),
            *PINS[name],
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **_SETTINGS},
    )  # fmt: skip
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
    return lend(folder, "torch")


def lend(folder: Path, *packages: str) -> Path:
    """A folder of links to packages of ours and to all that they require.

    Raises
    ------
    OSError
        One of the packages is not here.
    """
    todo, seen = list(packages), set()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            if name in packages:
                raise OSError(f"{name} is not installed beside this script") from None
            continue  # required elsewhere (another system, another Python)
        for top in {path.parts[0] for path in found.files or ()} - {"..", "__pycache__"}:
            link = folder / top
            if not link.exists():
                link.symlink_to(Path(str(found.locate_file(top))))
        wanted = [text for text in found.requires or () if "extra ==" not in text]
        todo += [match[0] for text in wanted if (match := re.match(r"[A-Za-z0-9._-]+", text))]
    return folder


def packages_of(python: str) -> str:
    """Where an environment's packages are."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
