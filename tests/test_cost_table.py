"""What benchmarks/cost.py makes of its measurements: spreads, ratios, the table of docs/cost.md."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.cost_table import BEGIN, END, markdown, put_into
from benchmarks.spread import ratio, spread

ROWS = {
    "region": {
        "figures": {"region_us": {"energyprof": spread([1.4, 1.5, 1.6]), "zeus": spread([60.0, 75.0, 90.0])}},
        "times_ours": {"region_us": {"zeus": ratio([60.0, 75.0, 90.0], [1.4, 1.5, 1.6])}},
        "failed": {"codecarbon": "pip failed"},
    }
}


def test_a_spread_is_a_median_with_an_interval_around_it() -> None:
    found = spread([3.0, 1.0, 2.0, 100.0, 2.5])
    assert found["median"] == 2.5
    assert 1.0 <= found["low"] <= 2.5 <= found["high"] <= 100.0
    assert spread([4.0])["low"] == spread([4.0])["high"] == 4.0


def test_a_ratio_draws_neighbouring_rounds_together() -> None:
    ours = [1.0, 2.0, 4.0]
    found = ratio([10.0, 20.0, 40.0], ours)  # a machine that slows down slows both
    assert found == {"median": 10.0, "low": 10.0, "high": 10.0}
    assert ratio([1.0], [0.0]) is None
    assert ratio([], ours) is None


def test_the_table_leaves_out_rows_that_were_not_measured_and_names_what_failed() -> None:
    table = markdown(ROWS).splitlines()
    assert len(table) == 3
    assert table[2].startswith("| a **region's** enter and exit, median | 1.5 (1.4 to 1.6) µs | 2 µs |")
    assert "*pip failed*" in table[2]
    assert "75 (60 to 90) µs, 50 ×" in table[2]


def test_the_table_is_put_between_its_comments_and_nowhere_else(tmp_path: Path) -> None:
    page = tmp_path / "cost.md"
    page.write_text(f"# Cost\n\n{BEGIN}\nold\n{END}\n\nthe rest\n")
    put_into(page, ROWS)
    put_into(page, ROWS)
    assert page.read_text() == f"# Cost\n\n{BEGIN}\n{markdown(ROWS)}\n{END}\n\nthe rest\n"
    page.write_text("no table")
    with pytest.raises(ValueError, match="has no table"):
        put_into(page, ROWS)


def test_the_page_of_cost_has_a_place_for_the_table() -> None:
    page = (Path(__file__).parent.parent / "docs/cost.md").read_text()
    assert page.index(BEGIN) < page.index(END)
