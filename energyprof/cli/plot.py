"""`energyprof plot`: a figure of runs in a file."""

from __future__ import annotations

import os

import click

from energyprof.cli.options import complete_run, seal
from energyprof.cli.words import say

KINDS = ("power", "icicle", "forest", "pareto", "budget", "breakdown", "forecast")
_FORMATS = ("png", "svg", "pdf")


def _complete_kind(ctx: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    return [kind for kind in KINDS if kind.startswith(typed)]


@click.command("plot")
@click.argument("kind", shell_complete=_complete_kind)
@click.argument("runs", nargs=-1, metavar="[RUN]...", shell_complete=complete_run)
@click.option(
    "--output",
    "-o",
    metavar="FILE",
    help="Where to: a name that ends in .png, .svg or .pdf. A file that is there is overwritten.",
)
@click.option("--out", metavar="DIR", help="The dataset. [default: ENERGYPROF_OUT or ./energyprof-runs]")
@click.option(
    "--metric",
    "-m",
    "metrics",
    multiple=True,
    metavar="M,M…",
    help="forest: only these, as in compare. pareto: the quality that was logged: accuracy …",
)
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="forest, pareto: with runs that failed, were killed or recovered.",
)
def verb(
    kind: str,
    runs: tuple[str, ...],
    output: str | None,
    out: str | None,
    metrics: tuple[str, ...],
    everything: bool,
) -> int:
    """Draw a figure of stored runs: energyprof plot power @last -o power.png

    \b
    KIND
      power      power over time by meter, with the run's phases; a panel a run
      icicle     where the energy of one run went: regions, and layers
      forest     what changed against the first group, with intervals: BASE OTHER...
      pareto     a logged quality against energy, with the front: --metric accuracy
      budget     what the interval of one run's joules is made of
      breakdown  joules by meter and method
      forecast   what the whole was forecast to draw, and what was drawn

    RUN is @last (the default), @last~1, an id, a name, a pattern, a tag KEY=VALUE, or the folder of another dataset.
    """
    from energyprof import settings
    from energyprof.plotting import draw, known_kind
    from energyprof.store import NewerSchema

    folder = settings.out_folder(out)
    wanted = [name.strip() for text in metrics for name in text.split(",") if name.strip()]
    try:
        known_kind(kind)
        file = _file(kind, output)
        seal([folder, *(os.path.abspath(run) for run in runs if os.path.isdir(run))])
        made, notes = draw(kind, runs or ("@last",), folder, wanted, everything)
    except (ValueError, NewerSchema) as fault:
        raise click.UsageError(str(fault)) from None
    from energyprof.reports.style import save

    try:
        save(made, file)
    except OSError as fault:
        raise click.UsageError(f"cannot write {file}: {fault.strerror}; name another with -o") from None
    for note in notes:
        say(f"warning: {note}")
    say(f"wrote {file}")
    return 0


def _file(kind: str, output: str | None) -> str:
    """The file to write, refused before anything is read where it cannot be one."""
    if not output:
        raise ValueError(f"say where to: -o {kind}.png, {kind}.svg or {kind}.pdf")
    if os.path.splitext(output)[1].lower().lstrip(".") not in _FORMATS:
        raise ValueError(f"{output}: the name must end in .png, .svg or .pdf")
    parent = os.path.dirname(os.path.abspath(output))
    if not os.path.isdir(parent):
        raise ValueError(f"cannot write {output}: there is no folder {parent}")
    if os.path.isdir(output):
        raise ValueError(f"cannot write {output}: it is a folder")
    return output
