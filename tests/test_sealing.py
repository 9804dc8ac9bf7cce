"""What sealing costs beside a program that may have taken less itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.conftest import ROOT
from tests.folders import written
from tests.simulate import world


def test_a_run_of_a_few_ticks_is_sealed_and_read_without_pandas_and_optimisers(tmp_path: Path) -> None:
    """Each is a third of what sealing takes; the metering process and the launcher seal by this very entry."""
    folder = written(world(np.random.default_rng(1), (0.25,), (300.0,), seconds=0.2), tmp_path / "run")
    program = (
        "import sys; from energyprof.seal import main; status = main(sys.argv[1:])\n"
        "from energyprof.result import stored\n"
        "assert stored(sys.argv[2], '01930000-0000-7000-8000-00000000000f').energy_j > 0\n"
        "print(status, *{'pandas', 'scipy.optimize', 'scipy.stats'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, folder, str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("0\n", 0), done.stderr
