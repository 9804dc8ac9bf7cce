"""`energyprof bench`: which of these commands costs less?"""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

import click

from energyprof.cli.compare import judged
from energyprof.cli.options import json_option, out_option, print_json, site_options
from energyprof.cli.words import columns, say, show

if TYPE_CHECKING:
    from energyprof.comparison import Comparison
    from energyprof.launch.bench import Ended
    from energyprof.limits import Limit
    from energyprof.reports.bench import Progress


@click.command("bench")
@click.argument("commands", nargs=-1, metavar="'COMMAND'...")
@out_option
@click.option("-n", "--rounds", type=int, metavar="N", help="Runs of each command.  [default: 10]")
@click.option("--warmup", type=int, metavar="K", help="Rounds before, which do not count.  [default: 1]")
@click.option(
    "--label", "labels", multiple=True, metavar="NAME", help="What to call each command, in their order."
)
@click.option("--seed", type=int, metavar="S", help="Of the random order.  [default: drawn, and printed]")
@click.option("--until", metavar="P%", help="Stop when the 95 % interval of each ratio is ± so narrow.")
@click.option("--budget", metavar="TIME", help="Stop when so much time has gone: 30min, 90s, 2h.")
@click.option(
    "--cool", type=float, metavar="SECONDS", help="Between runs.  [default: until power has settled]"
)
@click.option("--failures", type=int, metavar="N", help="Stop after so many failed runs.  [default: 3]")
@click.option("--shell", is_flag=True, help="Have /bin/sh read the commands.")
@click.option("--show", "show_output", is_flag=True, help="Let the programs write to the terminal.")
@click.option(
    "--resume", metavar="BENCH", help="Go on with an interrupted bench; -n, --until, --budget may change."
)
@click.option("--fresh", is_flag=True, help="Begin anew, also where the same bench was interrupted.")
@click.option(
    "--fail-if", "fail_if", multiple=True, metavar="LIMIT", help="As in compare: exit 1 beyond 'energy>+5%'."
)
@site_options
@json_option
def verb(
    commands: tuple[str, ...],
    out: str | None,
    rounds: int | None,
    warmup: int | None,
    labels: tuple[str, ...],
    seed: int | None,
    until: str | None,
    budget: str | None,
    cool: float | None,
    failures: int | None,
    shell: bool,
    show_output: bool,
    resume: str | None,
    fresh: bool,
    fail_if: tuple[str, ...],
    as_json: bool,
    **site: str | None,
) -> int:
    """Run commands in turn, in random order, and compare what they cost; the first is the baseline.

    Each COMMAND is one quoted text: 'python a.py' 'python b.py'. One alone is measured for its mean and spread.
    """
    from energyprof import settings
    from energyprof.launch import bench as benches
    from energyprof.launch.plan import PlanError, seconds
    from energyprof.launch.target import TargetError
    from energyprof.limits import limit, share

    folder = settings.out_folder(out)
    try:
        limits = [limit(text) for text in fail_if]
        plan = benches.prepared(
            commands, folder, say, labels=labels, shell=shell, resume=resume, fresh=fresh, rounds=rounds,
            warmup=warmup, seed=seed, until=None if until is None else share(until, "--until"),
            budget_s=None if budget is None else seconds(budget), cool_s=cool, failures=failures,
            show=show_output or None, site={k: v for k, v in site.items() if v is not None} or None,
        )  # fmt: skip
        if limits and len(plan.arms) < 2:
            raise PlanError("--fail-if compares: it takes two commands")
        ended = benches.bench(plan, folder, say, _progress(plan.show))
    except TargetError as fault:
        say(str(fault))
        return fault.code
    except ValueError as fault:
        raise click.UsageError(str(fault)) from None
    except OSError as fault:
        where = f"{fault.filename}: " if fault.filename else ""
        raise click.UsageError(
            f"cannot bench: {where}{fault.strerror or fault}; choose another folder with --out"
        ) from None
    return _concluded(ended, folder, out, limits, as_json)


def _progress(shown: bool) -> Progress:
    """On a terminal that is the bench's own, the run at hand has its line too."""
    from energyprof.reports.bench import Progress

    try:
        own = not shown and os.isatty(2)
    except OSError:
        own = False
    return Progress(show, _write if own else None)


def _write(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _concluded(ended: Ended, folder: str, out: str | None, limits: list[Limit], as_json: bool) -> int:
    """Print what was found; the exit status."""
    from energyprof.launch import bench as benches
    from energyprof.launch.plan import INTERRUPTED
    from energyprof.measures import QUALITY
    from energyprof.reports import bench as report
    from energyprof.reports import compare as comparing

    plan, data = ended.plan, benches.as_data(ended)
    whole = plan.rounds * len(plan.arms)
    where = f" --out {shlex.quote(out)}" if out is not None else ""
    again = f"`energyprof bench --resume {plan.bench_id}{where}`"
    if as_json and ended.state in (INTERRUPTED, benches.FAILURES):
        print_json({"bench": data, "comparison": None})
    if ended.state == INTERRUPTED:
        say(f"interrupted: {len(ended.runs)} of {whole} runs are kept; {again} goes on")
        return 128 + (ended.signal or 2)
    if ended.state == benches.FAILURES:
        say(f"stopped: {ended.why}; {again} goes on when that is mended")
        return 1
    show(f"ended: {ended.why}")
    if len(plan.arms) == 1:
        print_json({"bench": data, "comparison": None}) if as_json else click.echo(
            "\n".join(report.alone(data))
        )
        return 0
    try:
        found = benches.comparison(ended, folder)
    except ValueError as fault:
        raise click.UsageError(str(fault)) from None
    if as_json:
        print_json({"bench": data, "comparison": comparing.as_data(found)})
    else:
        click.echo("\n".join(["", *comparing.text(found, columns())]))
        for verb_then in ("compare", "report"):
            show(report.again(verb_then, ended.selectors(), out))
    strange = next((one for one in limits if one.metric.startswith(QUALITY) and not _has(found, one)), None)
    if strange:  # who misspells it has the runs and the comparison all the same
        raise click.UsageError(f"{strange.text}: no run logged that; say the limit to the compare above")
    return judged(found, limits)


def _has(found: Comparison, one: Limit) -> bool:
    return any(effect.metric == one.metric for effect in found.effects)
