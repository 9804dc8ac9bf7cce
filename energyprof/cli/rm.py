"""`energyprof rm`: take runs out of a dataset."""

from __future__ import annotations

import shlex
import sys

import click

from energyprof.cli.options import (
    KNOWN_BY,
    complete_run,
    find_run,
    json_option,
    load_runs,
    out_option,
    print_json,
    where_option,
)

_NAMED = 6  # runs that are named before they are deleted


@click.command("rm")
@click.argument("runs", nargs=-1, metavar="RUN...", shell_complete=complete_run)
@out_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
@where_option
def verb(runs: tuple[str, ...], out: str | None, yes: bool, as_json: bool, where: str | None) -> int:
    """Delete runs, named as for `show` or by --where, with their channels, regions, steps and readings. For good."""
    from energyprof import settings, store
    from energyprof.reports.numbers import clean, short_id
    from energyprof.where import shown

    folder = settings.out_folder(out)
    if not runs and where is None:
        raise click.UsageError("name the runs to delete: energyprof rm RUN..., or --where FILTER")
    known = load_runs(folder, KNOWN_BY, where)
    if not known and where is not None:
        raise click.UsageError(f"no run in {folder} fits {shown(where)}")
    rows = (
        [find_run(known, run, folder, f"for all: --where {_by_name(run)}") for run in runs] if runs else known
    )
    chosen = {row["run_id"]: row for row in rows}
    names = [f"{short_id(run_id)} ({clean(row['name'])})" for run_id, row in chosen.items()]
    if len(names) > _NAMED:
        names = [f"{len(names)} runs: {names[0]}", *names[1 : _NAMED - 1], f"… {names[-1]}"]
    if not yes:
        if sys.stdin is None or not sys.stdin.isatty():
            raise click.UsageError(f"to delete {', '.join(names)} without being asked, say --yes")
        click.confirm(f"delete {', '.join(names)} from {folder}?", abort=True, err=True)
    try:
        removed = store.remove(folder, list(chosen))
    except OSError as fault:
        raise click.UsageError(
            f"cannot delete from {fault.filename or folder}: {fault.strerror or fault}"
        ) from None
    if as_json:
        print_json({"removed": list(chosen), "bytes": removed})
    else:
        from energyprof.reports.numbers import quantity

        click.echo(f"deleted {', '.join(names)}: {quantity(removed, 'B')}")
    return 0


def _by_name(name: str) -> str:
    """The filter that takes all runs of a name, as a shell takes it."""
    quoted = name.replace("'", "''")
    return shlex.quote(f"name='{quoted}'")
