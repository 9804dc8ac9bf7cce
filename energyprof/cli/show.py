"""`energyprof show`: one run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from energyprof.cli.options import (
    KNOWN_BY,
    complete_run,
    find_run,
    json_option,
    load_runs,
    name_damaged,
    out_option,
    print_json,
    site_options_afterwards,
)
from energyprof.cli.words import say
from energyprof.reports.statement import FORMS
from energyprof.reports.statement import statement as written


@click.command("show")
@click.argument("run", default="@last", shell_complete=complete_run)
@out_option
@json_option
@click.option(
    "--statement",
    is_flag=False,
    flag_value="all",
    type=click.Choice(FORMS),
    metavar="[FORM]",
    help="A paragraph to publish, with methods, places, years and intervals: text, latex, yaml (a model card), or all.",
)
@site_options_afterwards
def verb(run: str, out: str | None, as_json: bool, statement: str | None, **site: str | None) -> int:
    """Show a run: @last (the default), @last~1, an id, the beginning of one, or a name.

    With a place, an intensity, a PUE, a WUE or a price, its grams, litres and money are worked out for these; what is
    not said anew is as the run had it, and what is stored stays as it is.
    """
    from energyprof import settings
    from energyprof.reports.text import details
    from energyprof.result import stored
    from energyprof.store import NewerSchema

    folder = settings.out_folder(out)
    found = find_run(load_runs(folder, KNOWN_BY), run, folder)
    try:
        result = stored(folder, found["run_id"])
    except NewerSchema as fault:
        raise click.UsageError(str(fault)) from None
    name_damaged(result.damaged)
    row, channels, regions = result.rows()
    said = {name: value for name, value in site.items() if value is not None}
    if said:
        from energyprof.reports.emissions import emissions

        anew = ", ".join(f"--{name} {value}" for name, value in said.items())
        changed = _elsewhere(row, said)
        say(f"worked out anew for {anew}; stored are {emissions(row)}")
        row = {**row, **changed}
    if statement:
        if as_json:
            raise click.UsageError("--json and --statement exclude each other; the yaml form is for machines")
        click.echo("\n".join(written(row, channels, statement)))
        return 0
    layers = result.layer_rows()
    if as_json:
        again = {"said_anew": said} if said else {}
        print_json({"run": row, "channels": channels, "regions": regions, "layers": layers, **again})
    else:
        from energyprof.reports.efficiency import of_run
        from energyprof.reports.layers import costliest

        try:
            peak = settings.peak_tflops()
        except ValueError as fault:
            raise click.UsageError(str(fault)) from None
        own = [*costliest(layers, row["step_s"]), *of_run(row, layers, peak)]
        click.echo("\n".join(details(row, channels, regions, own)))
    return 0


def _elsewhere(row: Mapping[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    from energyprof.restated import restated

    try:
        return restated(row, said)
    except ValueError as fault:
        raise click.UsageError(str(fault)) from None
