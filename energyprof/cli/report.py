"""`energyprof report`: runs as one HTML file."""

from __future__ import annotations

import os

import click

from energyprof.cli.options import complete_run, json_option, name_damaged, print_json, seal, where_option
from energyprof.cli.words import say


@click.command("report")
@click.argument("runs", nargs=-1, metavar="[RUN...]", shell_complete=complete_run)
@click.option("--out", metavar="DIR", help="The dataset. [default: ENERGYPROF_OUT or ./energyprof-runs]")
@click.option(
    "--output",
    "-o",
    "path",
    metavar="FILE",
    default="report.html",
    show_default=True,
    help="The file to write.",
)
@click.option("--force", is_flag=True, help="Replace the file even if it is no report of ours.")
@click.option(
    "--all", "everything", is_flag=True, help="Compare runs too that failed, were killed or recovered."
)
@json_option
@where_option
def verb(
    runs: tuple[str, ...],
    out: str | None,
    path: str,
    force: bool,
    everything: bool,
    as_json: bool,
    where: str | None,
) -> int:
    """Write a report of runs: one page, one file, no network.

    One run (@last is the default) is told in full: where its energy went, its power over time, how sure the number
    is. Of several groups, named as for `compare`, the first is the baseline.
    """
    from energyprof import reporting, settings
    from energyprof.store import NewerSchema

    folder = settings.out_folder(out)
    try:
        reporting.allowed(path, force)
    except OSError as fault:
        raise _cannot_write(path, fault) from None
    seal([folder, *(os.path.abspath(one) for one in runs if os.path.isdir(one))])
    try:
        found = reporting.report(runs or ("@last",), folder, everything, only=where)
    except (ValueError, NewerSchema) as fault:
        raise click.UsageError(str(fault)) from None
    try:
        reporting.write(found.html, path, force)
    except OSError as fault:
        raise _cannot_write(path, fault) from None
    name_damaged(found.damaged)
    size = len(found.html.encode())
    if as_json:
        print_json({"path": os.path.abspath(path), "bytes": size, "runs": found.runs})
    else:
        say(f"wrote {path}: {found.runs} run{'s' if found.runs != 1 else ''}, {size / 1e3:,.0f} kB")
    return 0


def _cannot_write(path: str, fault: OSError) -> click.UsageError:
    if isinstance(fault, FileExistsError):
        return click.UsageError(f"{path} is there and is no report; choose another -o, or say --force")
    return click.UsageError(f"cannot write {path}: {fault.strerror}; choose another place with -o")
