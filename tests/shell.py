"""A folder with a shell in it: `energyprof run` as somebody types it, for the tests of the launcher."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import energyprof

ROOT = Path(__file__).resolve().parent.parent
# As the console script does, without the working directory on the path.
ENERGYPROF = [
    sys.executable,
    "-c",
    "import sys; del sys.path[0]; from energyprof.cli import main; sys.exit(main())",
]
RUN = [*ENERGYPROF, "run"]
Output = subprocess.CompletedProcess[bytes]


class Shell:
    """Runs commands in one folder, as somebody who types them there would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work"
        self.folder.mkdir()
        self.out = folder / "runs"
        self._started: list[subprocess.Popen[str]] = []
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")},
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "ENERGYPROF_OUT": str(self.out),
        }

    def file(self, name: str, text: str, mode: int = 0o644) -> str:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return name

    def __call__(self, *command: str, **options: Any) -> Output:
        options = {"capture_output": True, "stdin": subprocess.DEVNULL, **options}
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, check=False, timeout=120, **options
        )

    def start(self, *command: str) -> subprocess.Popen[str]:
        """A command in a process group of its own, as a shell's job; waits for its first line."""
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def close(self) -> None:
        """End what a failed test left."""
        for process in self._started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()

    def runs(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = energyprof.load(self.out).to_dict("records")
        return rows


def one_line(done: Output) -> str:
    """What stderr says, where that is one line of ours."""
    text = done.stderr.decode()
    assert text.count("\n") == 1, text
    assert text.startswith("energyprof: ")
    assert "Traceback" not in text
    return text
