"""The power scale of real processors, under the names that kernels give them."""

from __future__ import annotations

import sys

import pytest

from energyprof.collectors.cpu_tdp import codecarbon_table, find_tdp, lookup, normalise, threads_a_socket

TABLE = [
    ["Name", "TDP"],
    ["Intel Xeon Platinum 8259CL", "210"],
    ["Intel Xeon E5-2686 v4", "145"],
    ["AMD EPYC 7763", "280.0"],
    ["AMD Ryzen 9 5950X", "105.0"],
    ["AMD Ryzen 7 PRO 4750U", "15"],
    ["Intel Core i7-1165G7", "28.0"],
    ["Intel Core i9-13900K", "27.29.5"],
    ["Intel Core i9-13900K", "125"],
    ["Intel Core 2 Duo E8500", "65"],
    ["Intel Xeon", "999"],
    ["short"],
]


@pytest.mark.parametrize(
    ("kernel_name", "plain"),
    [
        ("Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", "intel xeon platinum 8259cl"),
        ("Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz", "intel xeon e5-2686 v4"),
        ("AMD EPYC 7763 64-Core Processor", "amd epyc 7763"),
        ("AMD Ryzen 9 5950X 16-Core Processor", "amd ryzen 9 5950x"),
        ("AMD Ryzen 7 PRO 4750U with Radeon Graphics", "amd ryzen 7 pro 4750u"),
        ("11th Gen Intel(R) Core(TM) i7-1165G7 @ 2.80GHz", "intel core i7-1165g7"),
        ("Intel(R) Core(TM)2 Duo CPU     E8500  @ 3.16GHz", "intel core 2 duo e8500"),
        ("INTEL(R) XEON(R) PLATINUM 8488C", "intel xeon platinum 8488c"),
        ("AMD Ryzen 9 3900 Processor (OEM Only)", "amd ryzen 9 3900"),
    ],
)
def test_a_kernel_name_is_reduced_to_the_name_in_the_table(kernel_name: str, plain: str) -> None:
    assert normalise(kernel_name) == plain


@pytest.mark.parametrize(
    ("model", "watts"),
    [
        ("Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", 210),
        ("AMD EPYC 7763 64-Core Processor", 280),
        ("13th Gen Intel(R) Core(TM) i9-13900K", 125),  # its first row in the table is damaged
        ("Intel(R) Xeon(R) Processor", None),  # a make, not a model
        ("Intel(R) Xeon(R) CPU @ 2.20GHz", None),
        ("AMD EPYC-Milan Processor", None),
        ("AMD EPYC 776", None),
        ("", None),
    ],
)
def test_only_the_very_processor_is_found(model: str, watts: float | None) -> None:
    assert lookup(model, TABLE) == watts


def test_bare_metal_has_a_tdp_for_every_socket() -> None:
    tdp = find_tdp("AMD EPYC 7763 64-Core Processor", 256, 2, virtual=False, rows=TABLE)
    assert tdp.watts == 560
    assert "280 W" in tdp.source
    assert "2 sockets" in tdp.source
    assert tdp.gain_u95 == 0.75


def test_a_virtual_machine_has_its_share_of_a_socket_whatever_it_says_of_sockets() -> None:
    tdp = find_tdp("Intel(R) Xeon(R) Platinum 8259CL CPU @ 2.50GHz", 2, 8, virtual=True, rows=TABLE)
    assert tdp.watts == pytest.approx(210 * 2 / 48)
    assert "2 virtual CPUs of the socket's 48 threads" in tdp.source


def test_a_core_count_in_the_name_of_an_epyc_tells_its_threads() -> None:
    assert threads_a_socket("AMD EPYC 7V13 64-Core Processor") == 128
    assert threads_a_socket("AMD Ryzen 9 5950X 16-Core Processor") is None


@pytest.mark.parametrize("virtual", [True, False])
def test_a_nameless_processor_gets_a_published_figure_a_cpu_and_says_so(virtual: bool) -> None:
    tdp = find_tdp("Intel(R) Xeon(R) Processor", 4, 4, virtual, rows=TABLE)
    assert tdp.watts * tdp.curve_tdp_share[0] == pytest.approx(4 * 0.74)
    assert tdp.watts * tdp.curve_tdp_share[-1] == pytest.approx(4 * 3.5)
    assert "in no TDP table" in tdp.source
    assert "Cloud Carbon Footprint" in tdp.source
    assert tdp.gain_u95 == 1.0


def test_a_virtual_machine_on_a_known_processor_of_unknown_size_says_so() -> None:
    tdp = find_tdp("AMD Ryzen 9 5950X 16-Core Processor", 4, 1, virtual=True, rows=TABLE)
    assert "part of it is not known" in tdp.source


def test_the_curve_of_a_tdp_is_concave_and_begins_at_idle() -> None:
    tdp = find_tdp("AMD EPYC 7763 64-Core Processor", 128, 1, virtual=False, rows=TABLE)
    assert list(zip(tdp.curve_load, tdp.curve_tdp_share)) == [(0, 0.12), (0.1, 0.32), (0.5, 0.75), (1, 1.02)]


def test_codecarbons_table_is_read_without_importing_codecarbon() -> None:
    pytest.importorskip("importlib.util").find_spec("codecarbon") or pytest.skip(
        "codecarbon is not installed"
    )
    before = "codecarbon" in sys.modules
    assert lookup("Intel(R) Xeon(R) CPU E5-2686 v4 @ 2.30GHz", codecarbon_table()) == 145
    assert ("codecarbon" in sys.modules) == before


def test_every_cloud_processor_with_known_threads_is_spelt_as_it_is_looked_up() -> None:
    for name in ("Intel(R) Xeon(R) Platinum 8370C CPU @ 2.80GHz", "AMD EPYC 7R13 Processor", "AMD EPYC 9R14"):
        assert threads_a_socket(name) is not None
