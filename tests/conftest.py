"""Fixtures for all tests: virtual hardware, and programs that run as a user would run them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before anything imports numpy or torch, and for every program that a test starts: several processes with a pool of
# threads for each processor spend most of their time waiting for one another's threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from energyprof import cli
from tests.lab import VirtualHardware, compiler
from tests.shell import Shell

ROOT = Path(__file__).resolve().parent.parent
needs_lab = pytest.mark.skipif(
    compiler() is None, reason="the virtual hardware needs a C compiler (cc, gcc, clang)"
)

Completed = subprocess.CompletedProcess[str]
Runner = Callable[..., Completed]


# Files whose tests share what takes seconds to get: they stay in one worker. All others are handed out one by one.
TOGETHER = (
    "test_accuracy.py",
    "test_damage.py",
    "test_faithful.py",
    "test_fold.py",
    "test_layers_gentle.py",
    "test_layers_in_place.py",
    "test_lightning.py",
    "test_packaging.py",
    "test_transformers.py",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """In place of `--dist load`: no worker waits for the last tests of another one's file."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if file.endswith(TOGETHER) else nodeid

    return Scheduling(config, log) if config.getvalue("dist") == "load" else None


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


@pytest.fixture
def cli_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Runner:
    """The command line in this process, on the dataset in `tmp_path / "runs"`: where its words are looked at, and not
    how it starts."""

    def run(*arguments: str, env: dict[str, str] | None = None) -> Completed:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {"ENERGYPROF_OUT": str(tmp_path / "runs"), **(env or {})}.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["energyprof", *arguments])
            capsys.readouterr()  # what was said before is not the verb's
            code = cli.main()
            printed = capsys.readouterr()
            return Completed(arguments, code, printed.out, printed.err)

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
