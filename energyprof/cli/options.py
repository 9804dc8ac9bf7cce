"""What several verbs share: the options for the dataset and the output, and how a run is named."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from energyprof.cli.words import say

out_option = click.option(
    "--out", "-o", metavar="DIR", help="The dataset. [default: ENERGYPROF_OUT or ./energyprof-runs]"
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")

where_option = click.option(
    "--where",
    metavar="FILTER",
    help="Only runs that fit: \"tag.model='gpt2' and duration_s>60\" (docs/dataset.md).",
)

# Where the electricity is from; the names are those of `energyprof.carbon.site.SAID`.
_SITE = {
    "country": ("PLACE", "Where the electricity is from: FRA, US-CA, SE3, aws:eu-west-3 …"),
    "intensity": (
        "G|FILE",
        "Carbon intensity in g CO2e/kWh, instead of a place; or a .csv or .parquet file of times and g/kWh; "
        "or electricitymaps, which asks that service (ELECTRICITYMAPS_TOKEN).",
    ),
    "pue": (
        "X",
        "Energy of the data centre over that of its machines; or 'provider', as the cloud publishes it.",
    ),
    "wue": ("L", "Litres of water a kWh of the machines; or 'provider'."),
    "price": (
        "PRICE",
        "Of a kWh: '0.25 EUR', '0.30 EUR, 22-6 0.18' (hours of another price), 'prices.csv EUR'.",
    ),
}


_SITE_AFTERWARDS = {
    **_SITE,
    "intensity": ("G", "Carbon intensity in g CO2e/kWh, instead of a place."),
    "price": ("PRICE", "Of a kWh: '0.25 EUR'."),
}


def site_options(command: Any) -> Any:
    """The options that say where the electricity is from, and what it costs there."""
    return _with_options(command, _SITE)


def site_options_afterwards(command: Any) -> Any:
    """The same for a stored run, whose row has no hours."""
    return _with_options(command, _SITE_AFTERWARDS)


def _with_options(command: Any, options: Mapping[str, tuple[str, str]]) -> Any:
    for name, (metavar, text) in list(options.items())[::-1]:
        command = click.option(f"--{name}", metavar=metavar, help=text)(command)
    return command


def print_json(data: Any) -> None:
    """JSON as the dataset has it; times in ISO 8601."""
    click.echo(json.dumps(data, indent=2, default=plain, ensure_ascii=False))


def plain(value: Any) -> Any:
    """What JSON has no form for: times in ISO 8601, all else as text."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


UNSEALED = "delete that folder if the run is not needed"


KNOWN_BY = ("run_id", "name", "started_utc")  # the columns by which a run is named


def load_runs(
    out: str, columns: Collection[str] | None = None, where: str | None = None
) -> list[dict[str, Any]]:
    """The runs of a dataset that fit a filter, with all columns or some, abandoned runs sealed first; damaged files are
    named on stderr.

    Raises
    ------
    click.ClickException
        The dataset is of a newer energyprof, or the filter is none (exit status 2).
    """
    from energyprof import store
    from energyprof.schema import kinds
    from energyprof.where import WrongFilter
    from energyprof.where import where as parsed

    try:
        only = None if where is None else parsed(where, kinds("runs"))
    except WrongFilter as fault:
        raise click.UsageError(f"--where: {fault}") from None

    seal([out])
    try:
        wanted = None if columns is None else [*columns, *(only.columns if only else ())]
        listing = store.runs(out, None if wanted is None else list(dict.fromkeys(wanted)))
    except store.NewerSchema as fault:
        raise click.UsageError(str(fault)) from None
    name_damaged(listing.damaged)
    return listing.rows if only is None else [row for row in listing.rows if only.takes(row)]


def seal(folders: Sequence[str]) -> None:
    """Seal what nobody did, so that the last run is there; what cannot be sealed is named on stderr.

    Raises
    ------
    click.ClickException
        A folder is a file (exit status 2).
    """
    from energyprof import recovery

    for folder in folders:
        if os.path.exists(folder) and not os.path.isdir(folder):
            raise click.UsageError(f"{folder} is a file; name the folder of a dataset with --out")
        recovery.wait_for_sealing(folder)
        sealed, failed = recovery.recover(folder)
        for run_id in sealed:
            say(f"recovered run {run_id}, which nobody had finished")
        for path, why in failed:
            say(f"warning: {path} cannot be sealed: {why}; {UNSEALED}")


def name_damaged(damaged: Sequence[tuple[str, str]]) -> None:
    """Say which files of a dataset could not be read."""
    for path, why in damaged:
        say(f"warning: skipped {path}: {why}")


def find_run(runs: Sequence[dict[str, Any]], wanted: str, out: str, hint: str = "") -> dict[str, Any]:
    """The run meant by `@last`, `@last~2`, an id, the beginning of an id, or a name that only one has.

    `hint` says what to do where several have that name.
    """
    if not runs:
        raise click.UsageError(f"no runs in {out}; measure one with `energyprof run script.py`, or say --out")
    if wanted == "@last" or wanted.startswith("@last~"):
        back = wanted[6:] or "0"
        if not re.fullmatch("[0-9]{1,9}", back) or int(back) >= len(runs):
            raise click.UsageError(f"{wanted}: there are {len(runs)} runs, @last to @last~{len(runs) - 1}")
        return runs[-1 - int(back)]
    found = [run for run in runs if wanted and (run["run_id"] or "").startswith(wanted.lower())]
    by_id = bool(found)
    found = found or [run for run in runs if run["name"] == wanted]
    if len({run["run_id"] for run in found}) == 1:
        return found[0]
    from energyprof.reports.numbers import clean, short_id

    if found:
        ids = ", ".join(short_id(run["run_id"]) for run in found[-3:])
        newest = "" if len(found) <= 3 else f"{len(found)} runs, the newest "
        how = f"; {hint}" if hint and not by_id else ""
        raise click.UsageError(f"{clean(wanted)} is ambiguous: {newest}{ids}{how}")
    raise click.UsageError(f"no run {clean(wanted or '(empty)')}; nearest: {_nearest(runs, wanted)}")


def _nearest(runs: Sequence[dict[str, Any]], wanted: str) -> str:
    """The runs whose ids are likest to what looks like one, else those whose names are, the last of each name."""
    import difflib

    from energyprof.reports.numbers import clean, short_id

    key = "run_id" if re.fullmatch("[0-9a-fA-F-]{4,}", wanted) else "name"
    last = {run[key]: run for run in runs if run[key]} or {run["run_id"]: run for run in runs}
    near = difflib.get_close_matches(wanted, list(last), n=3, cutoff=0.0)
    return ", ".join(f"{short_id(last[one]['run_id'])} ({clean(last[one]['name'])})" for one in near)


def complete_run(ctx: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Runs for a shell to complete: `@last`, ids and names, the last first. Quiet where there are none."""
    from energyprof import settings, store

    try:
        rows = store.runs(settings.out_folder(ctx.params.get("out")), KNOWN_BY).rows
    except (store.NewerSchema, ValueError, OSError):
        return []
    words = ["@last", *(word for row in reversed(rows) for word in (row["run_id"], row["name"]) if word)]
    return [word for word in dict.fromkeys(words) if word.startswith(typed) and word.isprintable()][:50]
