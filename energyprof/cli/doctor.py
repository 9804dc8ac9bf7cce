"""`energyprof doctor`: which meters can be read here, and what they are like."""

from __future__ import annotations

import os

import click

from energyprof.cli.options import json_option, print_json
from energyprof.cli.words import say


@click.command("doctor")
@click.option(
    "--calibrate",
    "calibrating",
    is_flag=True,
    help="Learn the meters of this idle machine (15 s) and keep that for later runs.",
)
@click.option(
    "--self-test",
    "testing",
    is_flag=True,
    help="Measure a program whose regions differ in name alone (20 s): they must cost the same.",
)
@json_option
def verb(calibrating: bool, testing: bool, as_json: bool) -> int:
    """Open every meter once: what can be read, why not, and what to do about it.

    Exit status 1 where nothing can be measured, so that every joule would be from a model, or where the
    self-test fails.
    """
    from energyprof.checkup import checkup
    from energyprof.reports.text import diagnosis

    if calibrating and testing:
        raise click.UsageError("--calibrate and --self-test exclude each other: run one after the other")
    if calibrating:
        return _calibrate(as_json)
    if testing:
        return _self_test(as_json)
    report = checkup()
    if as_json:
        print_json(report)
    else:
        click.echo("\n".join(diagnosis(report)))
    return 0 if report["measures"] else 1


def _calibrate(as_json: bool) -> int:
    from energyprof import metercache
    from energyprof.calibrate import calibrate
    from energyprof.reports.meters import calibrated

    problem = metercache.load(os.environ).problem
    if problem:
        say(f"warning: {problem}; it is written anew")
    try:
        report = calibrate(say)
    except OSError as fault:
        where = fault.filename or metercache.path_of(os.environ)
        raise click.UsageError(
            f"cannot write to {where}: {fault.strerror}; name another folder in ENERGYPROF_CACHE"
        ) from None
    if as_json:
        print_json(report)
    else:
        click.echo("\n".join(calibrated(report)))
    return 0 if report["measures"] else 1


def _self_test(as_json: bool) -> int:
    from energyprof.reports.meters import tested
    from energyprof.selftest import self_test

    try:
        report = self_test(say)
    except (OSError, RuntimeError) as fault:
        raise click.ClickException(f"the self-test could not be run: {fault}") from None
    if as_json:
        print_json(report)
    else:
        click.echo("\n".join(tested(report)))
    return 0 if report["passed"] else 1
