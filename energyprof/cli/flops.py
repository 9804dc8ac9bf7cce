"""`energyprof flops`: the FLOPs of a model, layer by layer, without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from energyprof.cli.options import json_option, print_json

if TYPE_CHECKING:
    from energyprof.flops.report import FlopReport


@click.command("flops")
@click.argument("target")
@click.option(
    "--depth", type=click.IntRange(0), default=4, show_default=True, help="Levels of modules shown."
)
@click.option(
    "--sort",
    type=click.Choice(["tree", "flops", "params", "bytes"]),
    default="tree",
    show_default=True,
    help="As a tree, or the costliest layers first.",
)
@click.option("--top", type=click.IntRange(0), default=20, show_default=True, help="How many then; 0: all.")
@click.option("--forward-only", is_flag=True, help="No backward pass.")
@json_option
def verb(target: str, depth: int, sort: str, top: int, forward_only: bool, as_json: bool) -> int:
    """Count the FLOPs of one step of a model, forward and backward, layer by layer.

    TARGET is script.py:function or package.module:function; the function (build, where none is named) returns
    (model, batch): a torch.nn.Module, and a tensor, a tuple of positional or a dict of keyword inputs. Two
    FLOPs are one multiply-accumulate; norms, activations and other elementwise work are left out.
    """
    from energyprof.flops.report import as_rows, flop_report
    from energyprof.flops.target import TargetError, load

    try:
        model, batch = load(target)
        report = flop_report(model, batch, backward=not forward_only)
    except TargetError as fault:
        raise click.UsageError(str(fault)) from None
    except ValueError as fault:
        raise click.UsageError(f"{target}: {fault}") from None
    rows = as_rows(report)
    if as_json:
        print_json(_as_json(report, rows))
    else:
        from energyprof.reports.flops import flops_text

        click.echo("\n".join(flops_text(report, rows, depth=depth, sort=sort, top=top)))
    return 0


def _as_json(report: FlopReport, rows: list[dict[str, Any]]) -> dict[str, Any]:
    counted, static = report.counted, report.static
    return {
        "model": counted.model,
        "flops_forward": counted.flops_forward,
        "flops_backward": counted.flops_backward,
        "flops_recompute": counted.flops_recompute,
        "uncounted": dict(counted.uncounted),
        "way": counted.way,
        "static_flops_forward": static.total if static else None,
        "agreement": report.agreement,
        "notes": list(report.notes),
        "layers": rows,
    }
