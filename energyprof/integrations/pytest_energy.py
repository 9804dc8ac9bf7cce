"""What `pytest --energyprof` does: measures tests with a budget, judges them, and lists them at the end.

A test fails where even the lower end of its interval is above the budget, and warns where the interval straddles it: a
budget is not held or broken by luck. Where nothing can be measured it warns and the test's outcome stays.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import energyprof

if TYPE_CHECKING:
    from energyprof.profiler import Profile, Run

_UNITS = {"call": None, "step": "steps", "sample": "samples", "token": "tokens"}
_PROPERTY = "energyprof"


class EnergyWarning(UserWarning):
    """A budget that could not be judged, or that the interval straddles."""


@dataclass(frozen=True)
class Budget:
    """A mark's arguments: joules per unit, a relative tolerance, and whether a model's figure is judged."""

    joules: float
    per: str = "call"
    rel: float = 0.0
    modelled: bool = False

    def __post_init__(self) -> None:
        for name, value in (("joules", self.joules), ("rel", self.rel)):
            whole = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not whole or not 0 <= value < float("inf") or (name == "joules" and value == 0):
                raise ValueError(
                    f"{name}={value!r} is no {'number above 0' if name == 'joules' else 'share from 0'}"
                )
        if self.per not in _UNITS:
            raise ValueError(f"per={self.per!r} is none of {', '.join(map(repr, _UNITS))}")

    @property
    def limit_j(self) -> float:
        """The joules that may not be exceeded, with the tolerance."""
        return self.joules * (1 + self.rel)


@dataclass(frozen=True)
class Verdict:
    """What a figure says of a budget: "within", "straddles", "over", or "not judged"; and the words."""

    outcome: str
    text: str
    joules: float | None = None
    u95: float | None = None
    reason: str | None = None


def judged(budget: Budget, row: Mapping[str, Any]) -> Verdict:
    """The verdict on a run (a row of `schema.RUNS`)."""
    from energyprof.reports.numbers import energy as shown
    from energyprof.reports.numbers import quantity

    joules, u95 = row["energy_j"], row["u95_j"] or 0.0
    if joules is None:
        return Verdict(
            "not judged",
            f"its energy is not known ({row['reason'] or 'no meter gave a reading'})",
            reason=row["reason"],
        )
    if not row["measured_j"] and not budget.modelled:
        return Verdict(
            "not judged",
            "nothing can be measured here, the joules are a model's (`energyprof doctor`; modelled=True judges them)",
            joules,
            u95,
        )
    column = _UNITS[budget.per]
    count = 1 if column is None else row[column]
    if not count:
        return Verdict("not judged", f"the test counted no {column}: run.steps, run.count", joules, u95)
    each, half = joules / count, u95 / count
    unit = "" if column is None else f" a {budget.per}"
    figure = f"{shown(each, half)}{unit}"
    allowed = f"its budget of {quantity(budget.joules, 'J')}" + (
        f" + {100 * budget.rel:g} %" if budget.rel else ""
    )
    if each - half > budget.limit_j:
        return Verdict("over", f"{figure} is over {allowed}", each, half)
    if each + half > budget.limit_j:
        return Verdict("straddles", f"{figure} may be over {allowed}: the interval straddles it", each, half)
    return Verdict("within", f"{figure} is within {allowed}", each, half)


class Energy:
    """A measured block of a test: a run of its own, or a region where the test has a budget."""

    item: pytest.Item

    def __init__(self, name: str = "block") -> None:
        self.name = name
        self._run: Run | None = None
        self._profile: Profile | None = None

    def __enter__(self) -> Energy:
        self._profile = energyprof.profile(self.name, quiet=True, tags={"pytest": self.item.nodeid})
        self._run = self._profile.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._profile is not None:
            self._profile.__exit__(*exc)
            _note(self.item, self)

    @property
    def row(self) -> Mapping[str, Any]:
        """All columns of the run; waits for its sealing, about a second. Empty where it was not measured."""
        if self._run is None or self._run.run_id is None:
            return {}
        return self._run.result.row

    @property
    def joules(self) -> float | None:
        """Joules drawn while the block ran; None where they are not known, and `reason` says why."""
        value = self.row.get("energy_j")
        return None if value is None else float(value)

    @property
    def u95(self) -> float | None:
        """95 % half-width of `joules`."""
        value = self.row.get("u95_j")
        return None if value is None else float(value)

    @property
    def method(self) -> str | None:
        """counter, integrated, modelled …"""
        return self.row.get("method")

    @property
    def reason(self) -> str | None:
        """Why there is no figure, or what limits it."""
        return self.row.get("reason")


def _note(item: pytest.Item, block: Energy) -> None:
    item.stash.setdefault(_BLOCKS, []).append(block)


_BLOCKS = pytest.StashKey["list[Energy]"]()


class Budgets:
    """The plugin, where energy is asked for."""

    def blocks(self, item: pytest.Item) -> type[Energy]:
        """What the `energy` fixture of a test is."""
        return type("Energy", (Energy,), {"item": item})

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Say what is wrong with a mark before any test runs."""
        for item in items:
            try:
                _budget(item)
            except (TypeError, ValueError) as fault:
                what = str(fault).removeprefix("Budget.__init__() ")
                raise pytest.UsageError(
                    f"{item.nodeid}: energy_budget: {what}; joules=, per=, rel=, modelled="
                ) from None

    @pytest.hookimpl(
        wrapper=True, trylast=True
    )  # the innermost: fixtures and other plugins are not the test's
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        budget = _budget(item)
        if budget is None:
            return (yield)
        with energyprof.profile(item.name, quiet=True, tags={"pytest": item.nodeid}) as run:
            found = yield
        verdict = _verdict(budget, run)
        _list(
            item, item.nodeid, verdict.joules, verdict.u95, verdict.reason,
            outcome=verdict.outcome, limit=budget.limit_j, per=budget.per,
        )  # fmt: skip
        if verdict.outcome == "over":
            pytest.fail(f"energy: {verdict.text}", pytrace=False)
        if verdict.outcome != "within":
            item.warn(EnergyWarning(f"{item.nodeid}: {verdict.text}"))
        return found

    @pytest.hookimpl(wrapper=True, tryfirst=True)  # the outermost: a fixture may end a block of its own
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        try:
            return (yield)
        finally:
            _list_blocks(item)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        rows = [
            value
            for reports in terminalreporter.stats.values()
            for report in reports
            if getattr(report, "when", None) == "teardown"  # the last: it has what all phases listed
            for name, value in report.user_properties
            if name == _PROPERTY
        ]
        terminalreporter.section("energy")
        for line in summary(rows):
            terminalreporter.line(line)


def _budget(item: pytest.Item) -> Budget | None:
    mark = item.get_closest_marker("energy_budget")
    return None if mark is None else Budget(*mark.args, **mark.kwargs)


def _verdict(budget: Budget, run: Run) -> Verdict:
    """The verdict on a run; a fault of ours is no verdict."""
    if run.run_id is None:
        return Verdict("not judged", "it was not measured")
    try:
        return judged(budget, run.result.row)
    except (RuntimeError, LookupError, OSError) as fault:
        return Verdict("not judged", f"its energy is not known: {fault}")


def _list(
    item: pytest.Item, name: str, joules: float | None, u95: float | None, reason: str | None, **told: Any
) -> None:
    """Keep a line of the summary with the test's report, which travels from xdist's workers too."""
    row = {"name": name, "joules": joules, "u95": u95, "reason": reason, **told}
    item.user_properties.append((_PROPERTY, row))


def _list_blocks(item: pytest.Item) -> None:
    for block in item.stash.get(_BLOCKS, []):
        name = f"{item.nodeid} {block.name}"
        try:
            _list(item, name, block.joules, block.u95, block.reason)
        except (RuntimeError, LookupError, OSError) as fault:
            _list(item, name, None, None, str(fault))


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """The lines at the end: a test or a block each."""
    from energyprof.reports.numbers import clean, quantity, table
    from energyprof.reports.numbers import energy as shown

    if not rows:
        return ["no test has an energy_budget or used the energy fixture"]
    lines = [["test", "energy", "budget", ""]]
    for row in rows:
        per = "" if row.get("per", "call") == "call" else f" a {row['per']}"
        budget = f"{quantity(row['limit'], 'J')}{per}" if "limit" in row else ""
        figure = shown(row["joules"], row["u95"], row.get("reason")) + per
        lines.append([clean(row["name"]), figure, budget, row.get("outcome", "")])
    return table(lines, right=(1, 2))
