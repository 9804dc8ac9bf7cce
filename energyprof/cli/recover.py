"""`energyprof recover`: seal what a killed meter left."""

from __future__ import annotations

import click

from energyprof.cli.options import UNSEALED, json_option, out_option, print_json


@click.command("recover")
@out_option
@json_option
def verb(out: str | None, as_json: bool) -> int:
    """Seal runs whose meter was killed; `ls` and `show` do it too. Exit status 1 where one cannot be."""
    from energyprof import recovery, settings

    sealed, failed = recovery.recover(settings.out_folder(out))
    if as_json:
        print_json({"sealed": sealed, "failed": [{"folder": f, "why": why} for f, why in failed]})
        return 1 if failed else 0
    for run_id in sealed:
        click.echo(f"recovered {run_id}")
    for folder, why in failed:
        click.echo(f"energyprof: {folder} cannot be sealed: {why}; {UNSEALED}", err=True)
    if not sealed and not failed:
        click.echo("nothing to recover")
    return 1 if failed else 0
