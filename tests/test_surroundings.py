"""What `doctor` says of the machine itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from energyprof.collectors.base import Channel
from energyprof.surroundings import notes

PACKAGE = Channel("package:0", "energy", "counter", "CPU package 0")


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "proc/1").mkdir(parents=True)
    (tmp_path / "proc/cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu sse\n")
    (tmp_path / "proc/1/cgroup").write_text("0::/init.scope\n")
    (tmp_path / "sys").mkdir()
    return {
        "proc_root": str(tmp_path / "proc"),
        "sys_root": str(tmp_path / "sys"),
        "root": str(tmp_path),
    }


def topics(machine: dict[str, str], *channels: Channel, **environ: str) -> list[str]:
    return [topic for topic, _ in notes(environ, channels, **machine)]


def test_a_plain_machine_needs_no_note(machine: dict[str, str]) -> None:
    assert topics(machine, PACKAGE) == []


def test_a_virtual_machine_is_one(machine: dict[str, str]) -> None:
    Path(machine["proc_root"], "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu hypervisor\n")
    assert topics(machine) == ["virtual"]


@pytest.mark.parametrize("file", ["/.dockerenv", "/run/.containerenv"])
def test_a_container_is_known_by_the_file_of_its_engine(machine: dict[str, str], file: str) -> None:
    path = Path(machine["root"] + file)
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert topics(machine) == ["container"]


def test_a_container_is_known_by_its_control_group_and_its_environment(machine: dict[str, str]) -> None:
    assert topics(machine, container="lxc") == ["container"]
    assert topics(machine, KUBERNETES_SERVICE_HOST="10.0.0.1") == ["container"]
    Path(machine["proc_root"], "1/cgroup").write_text("1:name=systemd:/kubepods/besteffort/pod1\n")
    assert topics(machine) == ["container"]


def test_sgx_matters_where_its_counter_is_read(machine: dict[str, str]) -> None:
    Path(machine["proc_root"], "cpuinfo").write_text("processor\t: 0\nflags\t\t: fpu sgx sgx_lc\n")
    assert topics(machine) == []
    assert topics(machine, PACKAGE) == ["sgx"]


def test_a_mig_slice_and_a_module_are_said_to_be_the_whole(machine: dict[str, str]) -> None:
    assert topics(machine, CUDA_VISIBLE_DEVICES="MIG-4f1c9e3a") == ["mig"]
    board = Channel("gpu:0", "energy", "counter", "module", device={"covers": "package,dram"})
    assert topics(machine, board) == ["grace-hopper"]
