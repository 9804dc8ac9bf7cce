"""`energyprof ls`: the runs of a dataset."""

from __future__ import annotations

import click

from energyprof.cli.options import json_option, load_runs, out_option, print_json, where_option
from energyprof.cli.words import say


@click.command("ls")
@out_option
@json_option
@where_option
@click.option("--number", "-n", type=click.IntRange(1), help="Only the last N runs.")
def verb(out: str | None, as_json: bool, where: str | None, number: int | None) -> int:
    """List the runs of a dataset, oldest first."""
    from energyprof import settings
    from energyprof.reports.text import LISTED, listing
    from energyprof.where import shown

    folder = settings.out_folder(out)
    runs = load_runs(folder, None if as_json else LISTED, where)
    if number:
        runs = runs[-number:]
    if as_json:
        print_json(runs)
    elif runs:
        click.echo("\n".join(listing(runs)))
    elif where is not None:
        say(f"no run in {folder} fits {shown(where)}")
    else:
        say(f"no runs in {folder}; measure one with `energyprof run script.py`")
    return 0
