"""pytest, found by its entry point: a mark and a fixture that do nothing unless `--energyprof` or an ini file asks.

>>> @pytest.mark.energy_budget(joules=500)
... def test_an_epoch(energy):
...     with energy("forward") as forward:
...         model(batch)
...     assert forward.joules is None or forward.joules < 200

This file is imported by every pytest in the environment: it holds names, and imports nothing. What measures is in
`pytest_energy`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from energyprof.integrations.pytest_energy import Budgets, Energy

    Fixture = type[Energy] | type["NotAsked"]

_MARK = (
    "energy_budget(joules, per='call', rel=0, modelled=False): with --energyprof, a test that surely costs more fails; "
    "per='step', 'sample' or 'token' that it counts; rel is a tolerance; modelled=True judges a model's joules too"
)


class NotAsked:
    """The block of an `energy` fixture where nobody asked for energy: it is only run."""

    joules = u95 = method = reason = None

    def __init__(self, name: str = "") -> None:
        self.name = name

    def __enter__(self) -> NotAsked:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


def pytest_addoption(parser: pytest.Parser) -> None:
    text = (
        "Measure the energy of tests with an energy_budget, and of blocks of the energy fixture (energyprof)."
    )
    parser.getgroup("energyprof").addoption("--energyprof", action="store_true", default=False, help=text)
    parser.addini("energyprof", text, type="bool", default=False)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", _MARK)
    if config.getoption("energyprof") or config.getini("energyprof"):
        from energyprof.integrations.pytest_energy import Budgets

        config.pluginmanager.register(Budgets(), "energyprof-budgets")


@pytest.fixture
def energy(request: pytest.FixtureRequest) -> Fixture:
    """`with energy("name") as e: ...`, then `e.joules`, `e.u95` (95 %); None where nothing was measured."""
    budgets: Budgets | None = request.config.pluginmanager.get_plugin("energyprof-budgets")
    return NotAsked if budgets is None else budgets.blocks(request.node)
