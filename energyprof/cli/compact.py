"""`energyprof compact`: few files instead of many."""

from __future__ import annotations

import os

import click

from energyprof.cli.options import json_option, out_option, print_json
from energyprof.cli.words import say


@click.command("compact")
@out_option
@json_option
@click.option("--all", "everything", is_flag=True, help="The present day (UTC) too.")
def verb(out: str | None, as_json: bool, everything: bool) -> int:
    """Merge the small files of past days into one a day and table.

    No run is lost or there twice to energyprof, also where this is killed; runs that are not over stay as they are.
    Other programs that read the folder meanwhile may meet a run in both files.
    """
    from energyprof import settings
    from energyprof.compaction import compact
    from energyprof.store import NewerSchema

    folder = settings.out_folder(out)
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise click.UsageError(f"{folder} is a file; name the folder of a dataset with --out")
    try:
        done = compact(folder, everything)
    except NewerSchema as fault:
        raise click.UsageError(str(fault)) from None
    except OSError as fault:
        raise click.UsageError(
            f"cannot compact {fault.filename or folder}: {fault.strerror or fault}"
        ) from None
    for path, why in done.damaged:
        say(f"warning: left as it is: {path}: {why}")
    if as_json:
        print_json({**vars(done), "damaged": [{"path": path, "why": why} for path, why in done.damaged]})
    elif done.files_after < done.files_before:
        from energyprof.reports.numbers import quantity

        sizes = f"{quantity(done.bytes_before, 'B')} are {quantity(done.bytes_after, 'B')}"
        click.echo(f"{done.files_before:,} files are {done.files_after:,}, {sizes}")
    else:
        more = "" if everything else " (--all takes the present day too)"
        click.echo(f"nothing to merge in {folder}{more}")
    return 0
