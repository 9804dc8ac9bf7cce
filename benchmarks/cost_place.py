"""Where the programs of cost.py run: a machine of one virtual GPU and four RAPL zones; each tool's own interpreter."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from benchmarks import venvs
from benchmarks.cost_programs import TORCH
from tests.lab import VirtualHardware

ROOT = Path(__file__).resolve().parent.parent
RAPL = ("package-0", "package-1", "dram")  # memory in each package: four zones
_FED_NS = 1_600_000_000_000  # 64,000 steps of power, nearly all that the virtual board's log holds
CODE = "from benchmarks.cost_programs import main; main()"


class ProgramFault(Exception):
    """A program could not be run; the message is its last line."""


class Place:
    """A folder with virtual hardware; use as a context manager.

    Parameters
    ----------
    folder
        A scratch folder.
    environments
        Where the peers' virtual environments are, or are made.
    tick_s
        Period of the GPU's energy counter.
    steady
        The GPU's power changes by milliwatts, once in a while; else by hundreds of watts every 17 to 33 ms, so that its
        gauge never shows the same value twice, as under a real load.
    """

    def __init__(
        self, folder: Path, environments: Path, tick_s: float = 0.1003, steady: bool = False
    ) -> None:
        folder.mkdir(parents=True)
        self.folder, self._venvs, self._numbers = folder, environments, 0
        self._machine = VirtualHardware(folder, gpus=1, rapl=RAPL)
        board = self._machine.truth.device("gpu:0")
        board.tick_s = tick_s
        if tick_s < 0.1:
            board.jitter_low_s, board.jitter_high_s = 0.0, 0.001
        for channel, watts in (
            ("package:0", 180.0),
            ("package:1", 120.0),
            ("dram:0", 30.0),
            ("dram:1", 30.0),
        ):
            self._machine.truth.set_power(channel, watts)
        self._feed_gpu((299.99, 300.01), (0.3, 1.5)) if steady else self._feed_gpu((150, 600), (0.017, 0.033))
        # CodeCarbon looks whether this command is there before it asks NVML.
        (folder / "bin").mkdir()
        (folder / "bin/nvidia-smi").write_text("#!/bin/sh\nexit 0\n")
        (folder / "bin/nvidia-smi").chmod(0o755)
        (folder / "torch").mkdir()
        self._torch = venvs.torch_alone(folder / "torch")

    def beside(self, tick_s: float, steady: bool) -> Place:
        """Another machine, whose GPU ticks at another pace or draws a steady power."""
        return Place(self.folder / f"ticks-{tick_s:g}-{steady:d}", self._venvs, tick_s, steady)

    def _feed_gpu(self, watts: tuple[float, float], seconds: tuple[float, float]) -> None:
        """Write the GPU's power of the next half hour: no process need feed it."""
        chance, at_ns = random.Random(0), time.monotonic_ns()
        end_ns = at_ns + _FED_NS
        while at_ns < end_ns:
            self._machine.truth.set_power("gpu:0", chance.uniform(*watts), at_ns)
            at_ns += int(chance.uniform(*seconds) * 1e9)

    def __enter__(self) -> Place:
        self._machine.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._machine.__exit__(*exc)

    def python(self, tool: str) -> str:
        """The interpreter of a tool; ProgramFault where its environment cannot be made."""
        name = {"zeus gpu": "zeus", "nothing": "energyprof", "sleeping loop": "energyprof"}.get(tool, tool)
        try:
            return venvs.python_of(name, self._venvs)
        except OSError as fault:
            raise ProgramFault(str(fault)) from None

    def versions(self) -> dict[str, str]:
        """What is in the peers' environments."""
        code = "from importlib import metadata as m; print(m.version('{0}'), m.version('nvidia-ml-py'))"
        found = {}
        for tool in ("zeus", "codecarbon"):
            try:
                command = [self.python(tool), "-c", code.format(tool)]
            except ProgramFault as fault:
                found[tool] = f"not measured: {fault}"
                continue
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            found[tool] = done.stdout.strip().replace(" ", ", nvidia-ml-py ") or "unknown"
        return found

    def warm(self, tools: tuple[str, ...]) -> None:
        """Once through each tool: its files are compiled and in memory, as on a machine where it is in use."""
        for tool in tools:
            try:
                self.program("disk", tool, block_s=0.5)
            except ProgramFault:
                continue  # the rows say so

    def start(self, command: list[str]) -> subprocess.Popen[str]:
        """Run a command on the virtual machine, in a folder of its own."""
        self._numbers += 1
        work = self.folder / f"work{self._numbers}"
        work.mkdir()
        # As users have it: what has been imported once lies there compiled.
        kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
        environment = {
            **kept,
            **self._machine.env,
            "ENERGYPROF_OUT": str(work / "runs"),
            "PYTHONPATH": str(ROOT),
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            TORCH: str(self._torch),
        }
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, env=environment, cwd=work, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )

    def program(self, program: str, tool: str, before: tuple[str, ...] = (), **options: Any) -> Any:
        """What one of cost_programs.py found, run to its end; `before` goes before its command."""
        command = [*before, self.python(tool), "-c", CODE, program, tool, json.dumps(options)]
        process = self.start(command)
        try:
            out, fault = process.communicate(timeout=600)
        except subprocess.TimeoutExpired:
            process.kill()
            raise ProgramFault(f"{program} {tool}: no answer in 600 s") from None
        found = re.search(r"^RESULT (.*)$", out, re.M)
        if not found:
            raise ProgramFault(f"{program} {tool}: {(fault.strip().splitlines() or ['no output'])[-1][:200]}")
        return json.loads(found[1])

    def held(self, tool: str, **options: Any) -> tuple[subprocess.Popen[str], list[int]]:
        """A tool that measures until its input is closed, and the processes that meter."""
        process = self.start([self.python(tool), "-c", CODE, "hold", tool, json.dumps(options)])
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("READY "):
                return process, json.loads(line[6:])
        assert process.stderr is not None
        raise ProgramFault(
            f"hold {tool}: {(process.stderr.read().strip().splitlines() or ['no output'])[-1][:200]}"
        )
