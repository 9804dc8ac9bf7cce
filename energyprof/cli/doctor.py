"""`energyprof doctor`: which meters can be read here."""

from __future__ import annotations

import click

from energyprof.cli.options import json_option, print_json


@click.command("doctor")
@json_option
def verb(as_json: bool) -> int:
    """Open every meter once: what can be read, why not, and what to do about it.

    Exit status 1 where nothing can be measured, so that every joule would be from a model.
    """
    from energyprof.checkup import checkup
    from energyprof.reports.text import diagnosis

    report = checkup()
    if as_json:
        print_json(report)
    else:
        click.echo("\n".join(diagnosis(report)))
    return 0 if report["measures"] else 1
