"""What measuring costs, beside the peers, in one run on one machine.

    python benchmarks/cost.py [--only import,start,...] [--quick] [--venvs FOLDER] [--out FILE]
    python benchmarks/cost.py --table [--into docs/cost.md] [--out FILE]

Rows: import, start (leaving, and the wait for the result), region (and steps), meter (processor time), memory, disk,
training (slow-down of a loop). A quarter of an hour in all. Each tool runs in a virtual environment of its own, on the
same virtual hardware (tests/lab: one GPU, four RAPL zones), so that the real driver's time is not in it; the tools
take turns within each row. A row is stored as it ends: `--only` measures the named ones anew and keeps the others.
`--table` prints the table of docs/cost.md from the stored rows, `--into` puts it there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import cost_rows, cost_table, facts, venvs
from benchmarks.cost_place import Place
from benchmarks.cost_rows import QUICK, Effort, Table
from benchmarks.spread import ratio, spread
from tests.lab.hardware import compiler

ROWS: dict[str, Callable[[Place, Effort], Table]] = {
    "import": cost_rows.imports,
    "start": cost_rows.starts,
    "region": cost_rows.regions,
    "meter": cost_rows.meter,
    "memory": cost_rows.memory,
    "disk": cost_rows.disk,
    "training": cost_rows.training,
}


def stored(table: Table, effort: Effort, took_s: float) -> dict[str, Any]:
    """A row for the file: each figure's spread by tool, and the peers' ratios to ours."""
    figures = {
        figure: {tool: spread(values) for tool, values in tools.items()}
        for figure, tools in table.values.items()
    }
    times_ours = {
        figure: {tool: of for tool in tools if tool != "energyprof" and (of := ratio(tools[tool], ours))}
        for figure, tools in table.values.items()
        if (ours := tools.get("energyprof"))
    }
    return {
        "figures": figures,
        "times_ours": {figure: ratios for figure, ratios in times_ours.items() if ratios},
        "failed": table.failed,
        "effort": asdict(effort),
        "took_s": round(took_s, 1),
        "load_after": facts.facts()["load"],
    }


def show(name: str, row: dict[str, Any]) -> None:
    for figure, tools in row["figures"].items():
        for tool, found in tools.items():
            times = row["times_ours"].get(figure, {}).get(tool)
            beside = f"  = {times['median']:.3g} times ours" if times else ""
            print(
                f"{name:<9}{figure:<31}{tool:<15}{found['median']:10.4g}"
                f"  [{found['low']:.4g}, {found['high']:.4g}]  n {found['n']}{beside}",
                flush=True,
            )
    for tool, why in row["failed"].items():
        print(f"{name:<9}{tool}: {why}", flush=True)
    print(f"{name:<9}took {row['took_s']:g} s", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help=f"rows, separated by commas: {','.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="little of everything: does it work at all?")
    parser.add_argument(
        "--table", action="store_true", help="measure nothing; print the stored rows as a table"
    )
    parser.add_argument(
        "--into", type=Path, metavar="PAGE", help="with --table: replace the table in this page"
    )
    parser.add_argument("--venvs", type=Path, default=venvs.default_folder())
    parser.add_argument("--out")
    options = parser.parse_args()
    if options.into and not options.table:
        parser.error("--into goes with --table")
    options.rows = options.only.split(",") if options.only else list(ROWS)
    unknown = sorted(set(options.rows) - set(ROWS))
    if unknown:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join(ROWS)}")
    if compiler() is None and not options.table:
        parser.error("the virtual hardware needs a C compiler (cc, gcc or clang)")
    return options


def kept(path: Path) -> dict[str, Any]:
    """The rows of an earlier run into the same file."""
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (ValueError, OSError) as fault:
        if path.exists() and not path.is_dir() and not path.stat().st_size:
            return {}  # begun and stopped before its first row
        sys.exit(f"cost.py: {path} cannot be read as JSON ({fault}); move it away, or say --out FILE")
    rows = data.get("rows", {}) if isinstance(data, dict) else {}
    return rows if isinstance(rows, dict) else {}


def main() -> None:
    options = arguments()
    path = facts.result_path("cost-quick" if options.quick else "cost", options.out)
    rows = kept(path)
    if options.table and not rows:
        sys.exit(f"cost.py: {path.name} has no rows; measure first, or say --out FILE")
    if options.into:
        try:
            cost_table.put_into(options.into, rows)
        except (OSError, ValueError) as fault:
            sys.exit(f"cost.py: {fault}")
    elif options.table:
        print(cost_table.markdown(rows))
    if options.table:
        return
    effort = QUICK if options.quick else Effort()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()  # before a quarter of an hour, not after it
        spent = measure(options, effort, rows, path)
    except OSError as fault:
        sys.exit(f"cost.py: {fault}")
    except KeyboardInterrupt:
        sys.exit(f"cost.py: stopped; the rows that ended are in {path.name}, --only names the others")
    print(f"written to {path.name} after {spent:.0f} s")


def measure(options: argparse.Namespace, effort: Effort, rows: dict[str, Any], path: Path) -> float:
    """Row after row into `rows` and the file; the seconds they took."""
    with tempfile.TemporaryDirectory() as name, Place(Path(name) / "machine", options.venvs) as place:
        versions = place.versions()
        place.warm(cost_rows.TOOLS)
        for row in options.rows:
            begun = time.monotonic()
            table = ROWS[row](place, effort)
            rows[row] = stored(table, effort, time.monotonic() - begun)
            show(row, rows[row])
            facts.write("cost", {"rows": rows, "peers": versions}, str(path))
    return sum(float(rows[row]["took_s"]) for row in options.rows)


if __name__ == "__main__":
    main()
