"""What benchmarks/flops.py makes of its measurements: rows against the closed forms, the tables of docs/flops.md."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.zoo.closed import Closed, inclusive

BEGIN, END = (
    "<!-- table: python benchmarks/flops.py --table --into docs/flops.md -->",
    "<!-- end of the table -->",
)
_LABELS = {
    "energyprof": "energyprof",
    "energyprof fake": "energyprof, fake tensors",
    "energyprof static": "energyprof, static",
    "fvcore": "fvcore",
    "torch": "torch",
    "deepspeed": "DeepSpeed",
    "calflops": "calflops",
    "ptflops": "ptflops",
    "ptflops aten": "ptflops, aten",
    "thop": "thop",
    "torchinfo": "torchinfo",
}
_EXACT = 5e-4  # shown as 1.000


def against(
    closed: Closed, answer: Mapping[str, Any], rows: tuple[str, str] = ("rows_forward", "rows_backward")
) -> dict[str, Any]:
    """Ratios of totals, and how many layers' rows are exact, of those that multiply matrices and hold no attention.

    `strange_*` are the modules that compute nothing of what is counted, and have a row that is not zero.
    """
    totals = inclusive(closed, "")
    layers = [name for name, own in closed.items() if not own.attention]
    found: dict[str, Any] = {"layers": len(layers)}
    for place, kind in enumerate(("forward", "backward")):
        flops, by_name = answer.get(f"flops_{kind}"), answer.get(rows[place])
        if flops is not None:
            found[f"flops_{kind}"] = flops
            found[f"ratio_{kind}"] = flops / totals[place]
        if by_name is not None:
            expected = {name: inclusive(closed, name)[place] for name in {*layers, *by_name}}
            found[f"right_{kind}"] = sum(by_name.get(name, 0) == expected[name] for name in layers)
            found[f"strange_{kind}"] = sum(
                flops != 0 and not expected[name] for name, flops in by_name.items()
            )
    return found


def markdown(result: Mapping[str, Any]) -> str:
    """Totals, rows and the cost of a counted step; what was not measured is left out, what failed is named."""
    parts = [_totals(result), _rows(result), _steps(result)]
    return "\n\n".join(part for part in parts if part)


def _totals(result: Mapping[str, Any]) -> str:
    models = result.get("models", {})
    tools = [tool for tool in _LABELS if any(tool in found["tools"] for found in models.values())]
    if not tools:
        return ""
    lines = [f"| forward FLOPs / closed form | GFLOP | {' | '.join(_LABELS[tool] for tool in tools)} |"]
    lines.append("|---|---" + "|---" * len(tools) + "|")
    for found in models.values():
        cells = [_ratio(found["tools"].get(tool), "forward") for tool in tools]
        giga = f"{found['flops_forward'] / 1e9:.3f}"
        lines.append(f"| {found['title']} | {giga} | {' | '.join(cells)} |")
    failed = [f"{_LABELS.get(tool, tool)}: {why}" for tool, why in result.get("failed", {}).items()]
    return "\n".join([*lines, *(["", "Not there: " + "; ".join(failed)] if failed else [])])


def _rows(result: Mapping[str, Any]) -> str:
    """Backward totals and layers, of the tools that tell."""
    models = result.get("models", {})
    tools = [
        tool
        for tool in _LABELS
        if any("ratio_backward" in found["tools"].get(tool, {}) for found in models.values())
    ]
    if not tools:
        return ""
    heads = "".join(f" | {_LABELS[tool]}: backward | layers right | rows of nothing" for tool in tools)
    lines = [
        f"| backward FLOPs / closed form | GFLOP{heads} |",
        "|---|---" + "|---|---|---" * len(tools) + "|",
    ]
    for found in models.values():
        cells = []
        for tool in tools:
            answer = found["tools"].get(tool, {})
            cells.append(_ratio(answer, "backward"))
            right = f"{answer['right_backward']} of {answer['layers']}" if "right_backward" in answer else ""
            cells += [right, str(answer.get("strange_backward", ""))]
        giga = f"{found['flops_backward'] / 1e9:.3f}"
        lines.append(f"| {found['title']} | {giga} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _steps(result: Mapping[str, Any]) -> str:
    steps = result.get("steps", {})
    tools = [tool for tool in _LABELS if any(tool in found for found in steps.values())]
    if not tools:
        return ""
    lines = [f"| a counted step / a plain one | {' | '.join(_LABELS[tool] for tool in tools)} |"]
    lines.append("|---" + "|---" * len(tools) + "|")
    for found in steps.values():
        plain = statistics.median(tool["plain_ms"]["median"] for tool in found.values())
        cells = []
        for tool in tools:
            ratio = found.get(tool, {}).get("ratio")
            cells.append(
                f"{ratio['median']:.2f} ({ratio['low']:.2f} to {ratio['high']:.2f})" if ratio else ""
            )
        lines.append(f"| {plain:.0f} ms | {' | '.join(cells)} |")
    return "\n".join(lines)


def _ratio(answer: Mapping[str, Any] | None, kind: str) -> str:
    if not answer:
        return ""
    if "failed" in answer:
        return "fails"
    value = answer.get(f"ratio_{kind}")
    if value is None:
        return ""
    return "1.000" if abs(value - 1) < _EXACT else f"**{value:.3f}**"


def put_into(page: Path, result: Mapping[str, Any]) -> None:
    """Replace the tables of a page, between its two comments. ValueError where they are not there."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page} has no table between the comments {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n{markdown(result)}\n{END}{after}", encoding="utf-8")
