"""`energyprof estimate`: hours, energy, CO2e, cost and water of a run, before anything runs."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from energyprof.cli.options import json_option, print_json, site_options

if TYPE_CHECKING:
    from energyprof.carbon.site import Site

_SITE = ("country", "intensity", "pue", "wue", "price")


@click.command(
    "estimate",
    epilog="Numbers as people write them: 7B, 2T, 1e21, 3.5h, 90min, 40%. What nobody says is taken from the "
    "literature, with its interval, and listed; --sources says by whom.",
)
@click.option(
    "--gpu", metavar="NAME", help="The device: A100, 'H100 PCIe', 'TPU v4', 'Jetson Orin NX 16GB' …"
)
@click.option("--count", metavar="N", help="How many of them.  [default: 1]")
@click.option("--hours", metavar="H", help="How long, by the clock: 120, 1h30, 2d.")
@click.option("--flops", metavar="N", help="Or how much work, in FLOP.")
@click.option(
    "--params", metavar="N", help="Or the parameters of a model, with --tokens: 6 x N x tokens FLOP."
)
@click.option("--tokens", metavar="N", help="The tokens it is trained on, or reads and writes.")
@click.option("--inference", is_flag=True, help="2 x N x tokens FLOP, and the power of inference.")
@click.option("--mfu", metavar="X", help="The share of the peak that the work reaches.")
@click.option("--dtype", metavar="TYPE", help="The peak's: bf16, fp16, fp8, tf32, fp32, int8 …")
@click.option("--peak", "peak_tflops", metavar="TFLOPS", help="The peak, where the table has none.")
@click.option(
    "--utilisation",
    "--utilization",
    "utilisation",
    metavar="X",
    help="The share of the time in which a device computes.",
)
@click.option("--watts", metavar="W", help="What one device draws on average, where you know it.")
@click.option("--host-watts", metavar="W", help="The rest of the server, for each device.")
@site_options
@click.option("--places", metavar="A,B,…", help="Other places to compare with: FRA,SWE,US-CA.")
@click.option(
    "--series", metavar="FILE", help="Intensities by time: finds the greenest start. As --intensity FILE."
)
@click.option("--sources", is_flag=True, help="Whose each figure is, and what each board's is.")
@json_option
def verb(as_json: bool, sources: bool, places: str | None, series: str | None, **said: Any) -> int:
    """Estimate a run without running it: hours, kWh, CO2e, cost and water, with intervals.

    \b
    energyprof estimate --gpu A100 --hours 120 --count 8 --country DEU
    energyprof estimate --gpu H100 --count 64 --params 7B --tokens 2T
    energyprof estimate --gpu L4 --hours 6 --series intensity.csv
    """
    from energyprof.carbon.elsewhere import elsewhere
    from energyprof.carbon.elsewhere import places as places_for
    from energyprof.carbon.estimate import estimate, timed
    from energyprof.carbon.workload import ask

    try:
        asked = ask(**{name: value for name, value in said.items() if name not in _SITE})
        site = _site({name: said[name] for name in _SITE}, series)
        site, choice = timed(asked, site, time.time())
        found = estimate(asked, site)
        if site.series is not None and said["country"] is not None:
            note = (
                f"the intensity is the series'; of {said['country']} only what its operator publishes is used"
            )
            found = replace(found, notes=(*found.notes, note))
        named = [name for name in (places or "").split(",") if name.strip()]
        others = elsewhere(found.kwh, site.intensity, places_for(site.intensity, named))
    except ValueError as fault:
        raise click.UsageError(str(fault)) from None
    if as_json:
        from energyprof.reports.estimate_json import estimate_json

        print_json(estimate_json(asked, found, others, choice))
    else:
        from energyprof.reports.estimate import estimate_text

        click.echo("\n".join(estimate_text(asked, found, others, choice, sources)))
    return 0


def _site(said: dict[str, Any], series: str | None) -> Site:
    from energyprof import settings
    from energyprof.carbon.site import LIVE, site_of

    if series is not None:
        if said["intensity"] is not None:
            raise ValueError("--series and --intensity both say the intensity; choose one")
        if not series.lower().endswith((".csv", ".parquet", ".pq")):
            raise ValueError(f"series is {series[:60]!r}; give a .csv or .parquet file of times and g/kWh")
        said = {**said, "intensity": series}
    if str(said["intensity"]).lower().startswith(LIVE):
        raise ValueError("a live source knows no intensities to come; give a file of them, or a place")
    told = settings.site(said)
    if str(told.get("intensity")).lower().startswith(LIVE):  # a setting for runs that are measured
        told.pop("intensity")
    return site_of(told)
