"""`energyprof compare`: is B better than A?"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from energyprof.cli.options import complete_run, json_option, out_option, print_json, seal, where_option
from energyprof.cli.words import columns, say

if TYPE_CHECKING:
    from energyprof.comparison import Comparison
    from energyprof.limits import Limit

FORMATS = ("table", "markdown", "json", "csv")


@click.command("compare")
@click.argument("groups", nargs=-1, metavar="BASE OTHER...", shell_complete=complete_run)
@out_option
@json_option
@where_option
@click.option(
    "--metric", "-m", "metrics", multiple=True, metavar="M,M…", help="Only these: energy, duration …"
)
@click.option(
    "--threshold", metavar="P%", default="1%", show_default=True, help="Smaller effects get no verdict."
)
@click.option("--format", "form", type=click.Choice(FORMATS), help="[default: table]")
@click.option(
    "--fail-if",
    "fail_if",
    multiple=True,
    metavar="LIMIT",
    help="Exit status 1 where a difference is shown beyond it: 'energy>+5%', 'quality:accuracy<-1%'.",
)
@click.option("--github-summary", is_flag=True, help="Append Markdown to the file in GITHUB_STEP_SUMMARY.")
@click.option("--all", "everything", is_flag=True, help="With runs that failed, were killed or recovered.")
def verb(
    groups: tuple[str, ...],
    out: str | None,
    as_json: bool,
    where: str | None,
    metrics: tuple[str, ...],
    threshold: str,
    form: str | None,
    fail_if: tuple[str, ...],
    github_summary: bool,
    everything: bool,
) -> int:
    """Compare groups of runs with the first, the baseline.

    A group is @last, @last~1, an id, a name (all runs of that name), a pattern, a tag KEY=VALUE, or the folder of
    another dataset; a comma joins several into one group.
    """
    from energyprof import settings
    from energyprof.compare import compare_stored
    from energyprof.limits import limit, share
    from energyprof.store import NewerSchema

    if as_json and form not in (None, "json"):
        raise click.UsageError(f"--json and --format {form} ask for two forms; choose one")
    folder = settings.out_folder(out)
    summary_file = _summary_file() if github_summary else None
    wanted = [name.strip() for text in metrics for name in text.split(",")]
    try:
        limits = [limit(text) for text in fail_if]
        smallest = share(threshold)
        seal([folder, *(os.path.abspath(group) for group in groups if os.path.isdir(group))])
        found = compare_stored(
            groups, folder, wanted or None, smallest, everything, [one.metric for one in limits], where
        )
    except (ValueError, NewerSchema) as fault:
        raise click.UsageError(str(fault)) from None
    _print(found, "json" if as_json else form or "table")
    if summary_file:
        _append(summary_file, found)
    return judged(found, limits)


def judged(found: Comparison, limits: Sequence[Limit]) -> int:
    """Say which limits were exceeded; the exit status."""
    from energyprof.limits import exceeded, unjudged

    for one, why in unjudged(found, limits):
        say(f"warning: {one.text} could not be judged: {why}")
    failures = exceeded(found, limits)
    for one, effect in failures:
        say(f"{one.text}: {effect.group} is at {100 * (effect.change or 0.0):+.1f} %")
    return 1 if failures else 0


def _print(found: object, form: str) -> None:
    from energyprof.comparison import Comparison
    from energyprof.reports import compare as report

    assert isinstance(found, Comparison)
    if form == "json":
        print_json(report.as_data(found))
    elif form == "csv":
        click.echo(report.comma_separated(found))
    else:
        click.echo("\n".join(report.markdown(found) if form == "markdown" else report.text(found, columns())))


def _summary_file() -> str:
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if not path:
        raise click.UsageError(
            "--github-summary: GITHUB_STEP_SUMMARY is not set; leave it out, or say --format markdown"
        )
    return path


def _append(path: str, found: object) -> None:
    from energyprof.comparison import Comparison
    from energyprof.reports.compare import markdown

    assert isinstance(found, Comparison)
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write("\n".join(markdown(found)) + "\n\n")
    except OSError as fault:
        say(f"warning: cannot write the summary to {path}: {fault.strerror}")
