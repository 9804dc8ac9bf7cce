"""`energyprof layers`: joules of every layer of a model, each repeated alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from energyprof.cli.options import json_option, out_option, print_json
from energyprof.cli.words import say

if TYPE_CHECKING:
    from energyprof.layers.replay import Replayed


@click.command("layers")
@click.argument("target")
@out_option
@click.option(
    "--seconds",
    type=click.FloatRange(0.1, 3600),
    help="How long each pass of each kind of layer is repeated. [default: 5: 50 ticks of 0.1 s]",
)
@click.option("--trials", type=click.IntRange(2, 100), help="In how many blocks. [default: 6]")
@click.option(
    "--depth", type=click.IntRange(0), default=4, show_default=True, help="Levels of modules shown."
)
@click.option(
    "--sort",
    type=click.Choice(["energy", "time", "flops", "params", "tree"]),
    default="energy",
    show_default=True,
    help="The costliest layers first, or the model as a tree.",
)
@click.option("--top", type=click.IntRange(0), default=20, show_default=True, help="How many; 0: all.")
@click.option("--forward-only", is_flag=True, help="No backward pass.")
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
@json_option
def verb(
    target: str,
    out: str | None,
    seconds: float | None,
    trials: int | None,
    depth: int,
    sort: str,
    top: int,
    forward_only: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Measure the joules of every layer of a model: each kind is repeated alone, forward and backward.

    TARGET is script.py:function or package.module:function; the function (build, where none is named) returns
    (model, batch). The layers' sum is set against the measured step, and the run is stored.
    """
    from energyprof.flops.target import TargetError, load
    from energyprof.layerwise import replay_layers

    backward = False if forward_only else None
    try:
        model, batch = load(target)
        found = replay_layers(
            model, batch, backward=backward, out=out, trials=trials, seconds=seconds, quiet=quiet
        )
    except TargetError as fault:
        raise click.UsageError(str(fault)) from None
    except (ValueError, RuntimeError) as fault:
        raise click.UsageError(f"{target}: {' '.join(str(fault).split())[:300]}") from None
    if as_json:
        print_json(_as_json(found))
    else:
        from energyprof.reports.layers import replayed_text

        click.echo("\n".join(replayed_text(found.rows, found.notes, depth=depth, sort=sort, top=top)))
    if not quiet:
        say(f"run {found.result.run_id[:13]}: `energyprof show {found.result.run_id[:13]}` shows it")
    return 0


def _as_json(found: Replayed) -> dict[str, Any]:
    step = found.step
    return {
        "run_id": found.result.run_id,
        "model": step["model"],
        **{
            name: step[name]
            for name in ("flops_forward", "flops_backward", "flops_recompute", "energy_j", "u95_j")
        },
        "closure": found.closure,
        "u95_closure": found.u95_closure,
        "idle_w": found.idle_w,
        "notes": list(found.notes),
        "layers": found.rows,
    }
