"""FLOPs of nine models by every tool, against closed forms; and what a counted step costs.

    python benchmarks/flops.py [--models bert,...] [--tools energyprof,...] [--size small] [--venvs FOLDER] [--out FILE]
    python benchmarks/flops.py --table [--into docs/flops.md] [--out FILE]

The closed forms are derived in benchmarks/zoo from the models' configurations alone. Each tool runs in a process of
its own; the peers in virtual environments of their own, made when first needed, to which our torch and transformers
are lent. A quarter of an hour in all; what is measured is stored as it ends, and kept by a run of other models or
tools.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import facts, flops_steps, flops_table, venvs
from benchmarks.flops_tools import OURS, TOOLS
from benchmarks.spread import spread
from benchmarks.zoo import NINE

_WORKER = Path(__file__).resolve().parent / "flops_worker.py"
_DEADLINE_S = 1800


class Environments:
    """The interpreter of each tool, and the folders lent to it."""

    def __init__(self, folder: Path, lent: Path) -> None:
        self._folder = folder
        self._libraries = venvs.lend(lent, "torch", "transformers")
        self.failed: dict[str, str] = {}
        self._timm = self._packages("timm")
        self.versions = {
            package.partition("==")[0]: package.partition("==")[2] for package in venvs.PINS["timm"]
        }

    def command(self, tool: str) -> tuple[str, list[str]] | None:
        """Interpreter and folders; None, and noted, where the environment cannot be made."""
        if tool in OURS:
            return sys.executable, self._timm
        try:
            python = venvs.python_of(tool, self._folder)
        except OSError as fault:
            self.failed[tool] = str(fault)
            return None
        package, _, version = venvs.pins(tool)[0].partition("==")
        self.versions[package] = version
        return python, [str(self._libraries), *self._timm]

    def _packages(self, name: str) -> list[str]:
        try:
            return [venvs.packages_of(venvs.python_of(name, self._folder))]
        except OSError as fault:
            self.failed[name] = str(fault)
            return []


def answers(python: str, arguments: list[str]) -> Iterator[dict[str, Any]]:
    """The worker's lines as they come; one that says so where it dies."""
    with subprocess.Popen([python, str(_WORKER), *arguments], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        for line in worker.stdout:
            if line.startswith("{"):
                yield json.loads(line)
        code = worker.wait(_DEADLINE_S)
    if code:
        yield {"died": f"its process ended with {code}"}


def measure(options: argparse.Namespace, result: dict[str, Any], path: Path) -> None:
    """Tool after tool into `result` and the file."""
    chosen = {entry.name: entry for entry in NINE if entry.name in options.models}
    models = result.setdefault("models", {})
    for name, entry in chosen.items():
        closed = entry.closed(options.size)
        forward, backward = flops_table.inclusive(closed, "")
        kept = models.get(name, {}).get("tools", {})
        models[name] = {
            "title": entry.title, "flops_forward": forward, "flops_backward": backward, "tools": kept
        }  # fmt: skip
    result["models"] = {entry.name: models[entry.name] for entry in NINE if entry.name in models}
    with tempfile.TemporaryDirectory() as lent:
        places = Environments(options.venvs, Path(lent))
        for tool in options.tools:
            command = places.command(tool)
            if command is None:
                print(f"{tool}: {places.failed[tool]}", flush=True)
            else:
                count(tool, command, options.size, chosen, result)
                if tool in flops_steps.TOOLS and options.steps_s:
                    step_costs(tool, command, options.steps_s, result)
            earlier = {
                name: why for name, why in result.get("failed", {}).items() if name not in options.tools
            }
            result["failed"] = {**earlier, **places.failed}
            result["tools"] = {**result.get("tools", {}), **places.versions}
            facts.write("flops", {**result, "size": options.size}, str(path))


def count(
    tool: str, command: tuple[str, list[str]], size: str, chosen: dict[str, Any], result: dict[str, Any]
) -> None:
    """One tool over all models."""
    python, folders = command
    unanswered = dict.fromkeys(chosen, "no answer")
    for answer in answers(python, ["count", tool, size, ",".join(chosen), *folders]):
        if "died" in answer:
            unanswered = dict.fromkeys(unanswered, answer["died"])
            continue
        name = answer["model"]
        del unanswered[name]
        found = flops_table.against(chosen[name].closed(size), answer)
        found |= {key: answer[key] for key in ("failed", "took_s", "uncounted") if answer.get(key)}
        result["models"][name]["tools"][tool] = found
        show(name, tool, found)
    for name, why in unanswered.items():
        result["models"][name]["tools"][tool] = {"failed": why}
        show(name, tool, {"failed": why})


def step_costs(tool: str, command: tuple[str, list[str]], seconds: float, result: dict[str, Any]) -> None:
    """Pairs of plain and counted steps."""
    python, folders = command
    for answer in answers(python, ["steps", tool, str(seconds), *folders]):
        if "died" in answer:
            print(f"{tool}: {answer['died']}", flush=True)
            continue
        plain, counted = answer["plain_s"], answer["counted_s"]
        figures = {
            "ratio": [c / p for c, p in zip(counted, plain)],
            "plain_ms": [1e3 * p for p in plain],
            "counted_ms": [1e3 * c for c in counted],
        }
        found = {figure: spread(values) for figure, values in figures.items()}
        for one in found.values():
            del one["all"]
        result.setdefault("steps", {}).setdefault(answer["step"], {})[tool] = found
        print(
            f"{answer['step']:<10}{tool:<18}{found['plain_ms']['median']:.4g} ms  times {found['ratio']['median']:.3f}",
            flush=True,
        )


def show(model: str, tool: str, found: dict[str, Any]) -> None:
    if "failed" in found:
        print(f"{model:<10}{tool:<18}{found['failed']}", flush=True)
        return
    rows = ""
    for kind in ("forward", "backward"):
        if f"ratio_{kind}" in found:
            rows += f"  {kind} {found[f'ratio_{kind}']:.5f}"
        if f"right_{kind}" in found:
            rows += (
                f" ({found[f'right_{kind}']} of {found['layers']} layers, {found[f'strange_{kind}']} strange)"
            )
    print(f"{model:<10}{tool:<18}{rows}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    names = [entry.name for entry in NINE]
    parser.add_argument("--models", help=f"separated by commas: {','.join(names)}")
    parser.add_argument("--tools", help=f"separated by commas: {','.join(TOOLS)}")
    parser.add_argument("--size", choices=("full", "small"), default="full")
    parser.add_argument("--steps-s", type=float, default=30.0, help="seconds of paired steps each; 0: none")
    parser.add_argument("--venvs", type=Path, default=venvs.default_folder())
    parser.add_argument(
        "--table", action="store_true", help="measure nothing; print the stored rows as tables"
    )
    parser.add_argument(
        "--into", type=Path, metavar="PAGE", help="with --table: replace the tables in this page"
    )
    parser.add_argument("--out")
    options = parser.parse_args()
    if options.into and not options.table:
        parser.error("--into goes with --table")
    for option, known in (("models", names), ("tools", list(TOOLS))):
        given = getattr(options, option)
        values = given.split(",") if given else known
        unknown = sorted(set(values) - set(known))
        if unknown:
            parser.error(f"no {option[:-1]} {', '.join(unknown)}; there are {', '.join(known)}")
        setattr(options, option, values)
    return options


def stored(path: Path) -> dict[str, Any]:
    """What an earlier run left in the file."""
    try:
        return dict(json.loads(path.read_text()))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, OSError) as fault:
        sys.exit(f"flops.py: {path} cannot be read as JSON ({fault}); move it away, or say --out FILE")


def main() -> None:
    options = arguments()
    path = facts.result_path("flops" if options.size == "full" else "flops-small", options.out)
    result = stored(path)
    if options.table and not result:
        sys.exit(f"flops.py: {path.name} is not there; measure first, or say --out FILE")
    if options.into:
        try:
            flops_table.put_into(options.into, result)
        except (OSError, ValueError) as fault:
            sys.exit(f"flops.py: {fault}")
    elif options.table:
        print(flops_table.markdown(result))
    else:
        try:
            measure(options, result, path)
        except OSError as fault:
            sys.exit(f"flops.py: {fault}")
        except KeyboardInterrupt:
            sys.exit(f"flops.py: stopped; what ended is in {path.name}")
        print(f"written to {path.name}")


if __name__ == "__main__":
    main()
