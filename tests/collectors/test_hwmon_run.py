"""From a tree of hwmon files to the joules of a run, as somebody types it."""

from __future__ import annotations

import json
import sys

import pyarrow.dataset as ds

import energyprof
from tests.shell import ENERGYPROF, RUN


def test_a_run_on_a_grace_machine_is_measured_by_its_module_and_nothing_is_modelled(machine, shell) -> None:
    for label, watts in (("Module", 600), ("Grace", 250), ("CPU", 150)):
        attributes = {
            "power1_average": watts * 1_000_000,
            "power1_average_interval": 100,
            "power1_oem_info": f"{label} Power Socket 0",
        }
        machine.chip("power_meter", attributes, on_device=True)
    shell.environment |= {"ENERGYPROF_SYS_ROOT": str(machine.sys), "CUDA_VISIBLE_DEVICES": ""}
    done = shell(*RUN, "--", sys.executable, "-c", "import time; time.sleep(2)")
    assert done.returncode == 0, done.stderr
    (run,) = shell.runs()
    assert abs(run["energy_j"] / (600 * run["duration_s"]) - 1) < 0.01
    assert 0.05 <= run["u95_j"] / run["energy_j"] < 0.1
    assert "modelled" not in str(run["flags"])
    rows = ds.dataset(shell.out / "channels", partitioning=None).to_table().to_pylist()
    found = {row["channel"]: row for row in rows}
    assert set(found) == {"module:0", "package:0", "core:0"}
    assert found["package:0"]["parent"] == "module:0"
    assert abs(found["package:0"]["energy_j"] / found["module:0"]["energy_j"] - 250 / 600) < 1e-6


def test_doctor_on_a_machine_without_these_meters_does_not_name_them(machine, shell) -> None:
    machine.processor("Intel(R) Xeon(R) Platinum 8175M", virtual=True)
    (machine.proc / "stat").symlink_to("/proc/stat")
    (machine.proc / "meminfo").symlink_to("/proc/meminfo")
    shell.environment |= {
        "ENERGYPROF_SYS_ROOT": str(machine.sys),
        "ENERGYPROF_PROC_ROOT": str(machine.proc),
        "CUDA_VISIBLE_DEVICES": "",
    }
    done = shell(*ENERGYPROF, "doctor", "--json")
    report = json.loads(done.stdout)
    assert {absence["source"] for absence in report["missing"]} == {"nvml", "rapl"}
    assert (done.returncode, report["energyprof"]) == (1, energyprof.__version__)


def test_doctor_keeps_a_long_channel_name_apart_from_what_it_covers(machine, shell) -> None:
    rails = {"VDD_IN": 3000, "VDD_CPU_GPU_CV": 1000, "VDD_SOC": 500}
    attributes: dict[str, int | str] = {}
    for i, (label, ma) in enumerate(rails.items(), start=1):
        attributes |= {f"in{i}_label": label, f"in{i}_input": 5000, f"curr{i}_input": ma}
    machine.chip("ina3221", attributes)
    shell.environment |= {"ENERGYPROF_SYS_ROOT": str(machine.sys), "CUDA_VISIBLE_DEVICES": ""}
    text = shell(*ENERGYPROF, "doctor").stdout.decode()
    assert "rail:VDD_CPU_GPU_CV  CPU, GPU and vision engines" in text
    assert "module:0             the whole Jetson module" in text
