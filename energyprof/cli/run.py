"""`energyprof run`: run a program under the meters."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from energyprof.cli.options import out_option, plain, site_options
from energyprof.cli.words import say, show

if TYPE_CHECKING:
    from energyprof.result import Result


@click.command(
    "run",
    context_settings={"ignore_unknown_options": False, "allow_interspersed_args": False},
    options_metavar="[OPTIONS]",
)
@out_option
@click.option("--name", "-n", help="What the run is called. [default: the target]")
@click.option(
    "--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A text to store with the run; may repeat."
)
@site_options
@click.option(
    "--baseline",
    type=float,
    metavar="SECONDS",
    help="First measure the idle machine this long: energy above idle then stands beside the whole.",
)
@click.option(
    "--cuda",
    type=click.Choice(["events", "sync", "off"]),
    help="How regions are timed on a GPU. [default: ENERGYPROF_CUDA or events]",
)
@click.option(
    "--layers", is_flag=True, help="Count FLOPs and time some steps layer by layer; `show` has the costliest."
)
@click.option(
    "--layer-steps",
    metavar="WAIT,WARMUP,ACTIVE",
    help="Which calls of the model that is done in; with it --layers goes without saying. [default: 5,2,20]",
)
@click.option(
    "--steps",
    metavar="N",
    help="Steps that the whole training has: energy, CO2e and time of all of it are forecast from what ran.",
)
@click.option("--live", is_flag=True, help="Watts, joules and steps a second on the terminal while it runs.")
@click.option("--quiet", "-q", is_flag=True, help="No summary; errors only.")
@click.option("--json", "as_json", is_flag=True, help="The summary as JSON, on stderr.")
@click.option("-m", "module", is_flag=True, help="The target is a module, as in python -m.")
@click.option("-c", "code", is_flag=True, help="The target is code, as in python -c.")
@click.argument("target", nargs=-1, type=click.UNPROCESSED, metavar="TARGET [ARGS]...")
def verb(
    out: str | None,
    name: str | None,
    tags: tuple[str, ...],
    baseline: float | None,
    cuda: str | None,
    layers: bool,
    layer_steps: str | None,
    steps: str | None,
    live: bool,
    quiet: bool,
    as_json: bool,
    module: bool,
    code: bool,
    target: tuple[str, ...],
    **site: str | None,
) -> int:
    """Run TARGET (a .py script, a folder with __main__.py, or any command) and measure it.

    Everything after the target is the target's. Its exit code is given back; the summary goes to stderr.
    """
    from energyprof.launch.measure import measure
    from energyprof.launch.supervise import end_like
    from energyprof.launch.target import TargetError

    if not target:
        raise click.UsageError("nothing to run; try `energyprof run script.py` or `energyprof run -m module`")
    if module and code:
        raise click.UsageError("-m and -c exclude each other")
    try:
        measured = measure(
            target,
            module=module,
            code=code,
            out=out,
            name=name,
            tags=_tags(tags),
            site=site,
            baseline=baseline,
            tell=_say_nothing if quiet else say,
            cuda=cuda,
            live=live,
            layers=layer_steps or layers,
            steps=steps,
        )
    except TargetError as fault:
        say(str(fault))
        return fault.code
    except ValueError as fault:
        raise click.UsageError(str(fault)) from None
    except OSError as fault:
        where = fault.filename or out
        if not where:  # too many open files, no memory: no folder's fault
            raise click.UsageError(f"cannot start to measure: {fault.strerror}") from None
        raise click.UsageError(
            f"cannot write to {where}: {fault.strerror}; choose another folder with --out"
        ) from None
    if measured.problem:
        say(f"warning: {measured.problem}")
    if measured.result is not None and (as_json or not quiet):
        show(_as_json(measured.result) if as_json else _as_text(measured.result))
    return end_like(measured.code)


def _say_nothing(text: str) -> None:
    """Of what is quiet."""


def _as_json(result: Result) -> str:
    return json.dumps(result.row, default=plain, ensure_ascii=False)


def _as_text(result: Result) -> str:
    from energyprof.reports.text import summary

    return "\n".join(
        ["energyprof: " + line if i == 0 else line for i, line in enumerate(summary(*result.rows()))]
    )


def _tags(pairs: tuple[str, ...]) -> dict[str, str]:
    for pair in pairs:
        if pair.find("=") < 1:
            raise click.UsageError(f"--tag {pair}: write KEY=VALUE")
    return dict(pair.split("=", 1) for pair in pairs)
