"""Fixtures for all tests: virtual hardware, and programs that run as a user would run them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab import VirtualHardware, compiler
from tests.shell import Shell

ROOT = Path(__file__).resolve().parent.parent
needs_lab = pytest.mark.skipif(
    compiler() is None, reason="the virtual hardware needs a C compiler (cc, gcc, clang)"
)

Completed = subprocess.CompletedProcess[str]
Runner = Callable[..., Completed]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=3, help="SIGKILLs of each sort in test_kills.py")


@pytest.fixture(autouse=True)
def nobody_measures(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Settings of the machine under the tests must not leak into them."""
    for name in list(os.environ):
        if name.startswith("ENERGYPROF_") or name in (
            "RANK",
            "LOCAL_RANK",
            "WORLD_SIZE",
            "CUDA_VISIBLE_DEVICES",
        ):
            monkeypatch.delenv(name)
    monkeypatch.setenv("ENERGYPROF_CACHE", str(tmp_path_factory.getbasetemp() / "no-cache"))


@pytest.fixture
def hardware(tmp_path: Path) -> Iterator[Callable[..., VirtualHardware]]:
    """Makes virtual machines; the tests that ask for it are left out where there is no C compiler."""
    if compiler() is None:
        pytest.skip("the virtual hardware needs a C compiler (cc, gcc, clang)")
    opened: list[VirtualHardware] = []

    def make(**options: object) -> VirtualHardware:
        folder = tmp_path / f"machine{len(opened)}"
        folder.mkdir()
        opened.append(VirtualHardware(folder, **options).__enter__())  # type: ignore[arg-type]
        return opened[-1]

    yield make
    for machine in opened:
        machine.__exit__()


@pytest.fixture
def run_python(tmp_path: Path) -> Runner:
    """Run a program text as a script in an empty folder, with the dataset in `tmp_path / "runs"`."""

    def run(
        text: str, *arguments: str, env: dict[str, str] | None = None, before: tuple[str, ...] = ()
    ) -> Completed:
        folder = tmp_path / "work"
        folder.mkdir(exist_ok=True)
        script = folder / "program.py"
        script.write_text(text, encoding="utf-8")
        return execute([*before, sys.executable, str(script), *arguments], folder, tmp_path, env)

    return run


@pytest.fixture
def energyprof_cli(tmp_path: Path) -> Runner:
    """Run the command line in an empty folder, with the dataset in `tmp_path / "runs"`."""

    def run(*arguments: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> Completed:
        folder = cwd or tmp_path / "work"
        folder.mkdir(exist_ok=True)
        command = [
            sys.executable,
            "-c",
            "import sys; from energyprof.cli import main; sys.exit(main())",
            *arguments,
        ]
        return execute(command, folder, tmp_path, env)

    return run


def execute(command: list[str], cwd: Path, tmp_path: Path, env: dict[str, str] | None) -> Completed:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "ENERGYPROF_OUT": str(tmp_path / "runs"),
        **(env or {}),
    }
    return subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    shell = Shell(tmp_path)
    yield shell
    shell.close()
