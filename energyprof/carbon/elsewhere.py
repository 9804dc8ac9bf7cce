"""The same run at other places: which places to set beside its own, and the grams there.

The energy, its PUE included, is taken as it is: what differs is the electricity.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from energyprof.carbon import cloud, tables
from energyprof.carbon.intensity import GIVEN_SCOPE, Intensity, MissingTable, UnknownPlace, resolve
from energyprof.carbon.ranges import Range

WORLD = "WORLD"
# Where many data centres are, from low to high intensity; what a run is compared with where nobody says.
PLACES = ("NOR", "SWE", "FRA", "GBR", "USA", "DEU", "POL", "IND", WORLD)
_LOWEST, _NEAR = 3, 4


@dataclass(frozen=True)
class There:
    """The same run at a place.

    `ratio` is that of its intensity to the run's own, None where that is zero. `comparable` is False where the two
    count different emissions (their `scope`), None where nobody knows what the user's own figure counts.
    """

    place: Intensity
    co2e_g: Range
    ratio: float | None
    comparable: bool | None
    own: bool


def elsewhere(kwh: Range, own: Intensity, places: Iterable[Intensity]) -> list[There]:
    """The grams of the same energy at each place, with their intervals, the lowest first."""
    found = [
        There(
            place,
            kwh * place.range,
            place.g_per_kwh / own.g_per_kwh if own.g_per_kwh > 0 else None,
            True if place == own else None if own.scope == GIVEN_SCOPE else place.scope == own.scope,
            place == own,
        )
        for place in places
    ]
    return sorted(found, key=lambda there: there.place.g_per_kwh)


def places(own: Intensity, said: Sequence[str] = ()) -> list[Intensity]:
    """The places to compare a run with: those that were said, else those that a choice is likely between.

    For a run in a cloud those are regions of that cloud: the lowest of all, and the lowest on the same
    continent, which names of Azure's do not tell. The run's own place is always among them.

    Raises
    ------
    ValueError
        A place that was said is unknown, or CodeCarbon's tables are not there.
    """
    if said:
        found = [_resolved(name) for name in said]
    else:
        try:
            found = _of_cloud(own) if ":" in own.place else [_resolved(name) for name in PLACES]
        except MissingTable:
            found = []
    # By code, since Georgia is two; by name too, since a figure of the user's own has the code of its place or none.
    return list({(place.place, place.place_name): place for place in [*found, own]}.values())


def _resolved(name: str) -> Intensity:
    return resolve(None if name.strip().upper() == WORLD else name)


def _of_cloud(own: Intensity) -> list[Intensity]:
    """Regions of the run's cloud, one for each grid, and the world."""
    provider, _, region = own.place.partition(":")
    folder = tables.shipped()
    names = set(cloud.known().get(provider, {}).get("regions", ()))
    if provider == "gcp" and folder is not None:
        names |= set(cloud.google(folder))
    grids: dict[float, Intensity] = {}
    for name in sorted(names):
        try:
            place = resolve(f"{provider}:{name}")
        except UnknownPlace:  # its grid has no usable figure
            continue
        grids.setdefault(place.g_per_kwh, place)
    ranked = [grids[g] for g in sorted(grids)]
    continent = region.partition("-")[0]
    near = [place for place in ranked if place.place.partition(":")[2].partition("-")[0] == continent]
    lowest = ranked[:_LOWEST]
    return [*lowest, *[place for place in near if place not in lowest][:_NEAR], _resolved(WORLD)]
