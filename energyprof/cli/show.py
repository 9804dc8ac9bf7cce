"""`energyprof show`: one run."""

from __future__ import annotations

import click

from energyprof.cli.options import find_run, json_option, load_runs, out_option, print_json


@click.command("show")
@click.argument("run", default="@last")
@out_option
@json_option
def verb(run: str, out: str | None, as_json: bool) -> int:
    """Show a run: @last (the default), @last~1, an id, the beginning of one, or a name."""
    from energyprof import settings
    from energyprof.reports.text import details
    from energyprof.result import stored

    folder = settings.out_folder(out)
    found = find_run(load_runs(folder), run, folder)
    row, channels, regions = stored(folder, found["run_id"]).rows()
    if as_json:
        print_json({"run": row, "channels": channels, "regions": regions})
    else:
        click.echo("\n".join(details(row, channels, regions)))
    return 0
