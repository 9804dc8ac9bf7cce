"""The memory's model."""

from __future__ import annotations

import pytest

from energyprof.collectors.dram_model import DramModelCollector


def test_memory_draws_a_constant_power_by_its_size(machine) -> None:
    (machine.proc / "meminfo").write_text("MemTotal:       67108864 kB\nMemFree: 1 kB\n")
    (group,) = DramModelCollector().open(machine.context()).groups
    (channel,) = group.channels
    assert group.read() == (round(64 * 372.5),)
    assert (channel.name, channel.quantity, channel.method) == ("dram:0", "power", "modelled")
    assert channel.device["mem_gb"] == 64.0
    assert channel.gain_source.startswith("assumed")


def test_without_meminfo_psutil_tells_the_size(machine) -> None:
    psutil = pytest.importorskip("psutil")
    (group,) = DramModelCollector().open(machine.context()).groups
    assert group.read()[0] == pytest.approx(psutil.virtual_memory().total / 2**30 * 372.5, abs=1)
