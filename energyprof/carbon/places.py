"""What a user may have meant by a place that no table has: the nearest of all countries, their parts and regions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from energyprof.carbon import cloud, subdivisions, tables

_SHOWN = 3


@dataclass(frozen=True)
class Known:
    """A place that could have been meant: what to type, what it is called, and how much electricity it makes, TWh."""

    code: str
    name: str
    twh: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """All that a user may have tried to type."""
        bare = self.code.casefold().split(":")[-1]
        return tuple(dict.fromkeys((self.code.casefold(), bare, self.name.casefold())))


def all_places(folder: Path) -> list[Known]:
    """Every place that has a figure."""
    countries = tables.countries(folder)
    places = [
        Known(code, str(row.get("country_name", code)), tables.number(row.get("total_TWh")) or 0.0)
        for code, row in countries.items()
    ]
    for rows in (subdivisions.states, subdivisions.provinces, subdivisions.chinese, subdivisions.zones):
        places += [Known(row.code, row.name) for row in rows(folder).values()]
    for provider, about in cloud.known().items():
        places += [Known(f"{provider}:{name}", city) for name, (_, city) in about["regions"].items()]
    return places


def named(text: str, places: Iterable[Known]) -> str | None:
    """The code of the one country, part of one or zone that has this name in full ("Germany").

    None where there is none, or several (Georgia); a city of a cloud's region is not the region.
    """
    wanted = text.casefold()
    found = {place.code for place in places if place.name.casefold() == wanted and ":" not in place.code}
    return found.pop() if len(found) == 1 else None


def describe_nearest(text: object, places: list[Known]) -> str:
    """Return the one line for the user: the place is unknown, and these are the nearest ones."""
    found = nearest(text, places) if isinstance(text, str) else []
    names = ", ".join(f"{place.code} ({place.name[:30]})" for place in found)
    hint = f"did you mean {names}?" if names else "a place is FRA, US-CA, SE3 or aws:eu-west-3."
    return f"no place {repr(text)[:40]} among the {len(places)} known; {hint} Or give the intensity in g/kWh"


def nearest(text: str, places: Iterable[Known]) -> list[Known]:
    """Return up to three places, the likeliest first; of equals, the one that generates more electricity.

    A country's name in full goes before the regions of clouds that are called so too ("Germany" -> DEU), and leaves
    a state of that name beside it (Georgia).
    """
    wanted = " ".join(text.casefold().split())[:60]
    if not wanted:
        return []
    ranked = []
    for place in places:
        distance = _distance(wanted, place)
        if distance is not None:
            ranked.append((distance, -place.twh, place.code, place))
    ranked.sort(key=lambda item: item[:3])
    exact = [place for distance, _, _, place in ranked if distance == 0.0]
    if any(len(place.code) == 3 for place in exact):
        exact = [place for place in exact if ":" not in place.code]
    return exact[:_SHOWN] or [place for _, _, _, place in ranked[:_SHOWN]]


def _distance(wanted: str, place: Known) -> float | None:
    """Return how far what was typed is from a place, None where it is too far to be worth naming."""
    code, name = place.names[0], place.names[-1]
    if wanted in (name, place.names[-2]):
        return 0.0
    if len(wanted) > 1 and wanted == "".join(word[0] for word in name.split()):
        return 1.0  # us, uae
    if code[2:3] == "-" and wanted == code[3:]:
        return 1.0  # oh -> us-oh
    if len(wanted) == 2 and code.startswith(wanted) and len(code) == 3:
        return 2.0  # most two-letter codes begin the three-letter one
    if len(wanted) == 2 and code[0] == wanted[0] and wanted[1] in code[:3]:
        return 3.0  # se -> swe, pt -> prt
    if len(wanted) > 2 and name.startswith(wanted):
        return 4.0  # ger
    if len(wanted) > 3 and any(wanted in other for other in place.names):
        return 5.0  # korea
    return _unlikeness(wanted, place.names)


def _unlikeness(wanted: str, names: tuple[str, ...]) -> float | None:
    from difflib import SequenceMatcher

    best = 0.0
    matcher = SequenceMatcher(b=wanted)
    for name in names:
        matcher.set_seq1(name)
        if matcher.real_quick_ratio() > max(best, 0.65) and matcher.quick_ratio() > max(best, 0.65):
            best = max(best, matcher.ratio())
    return 7.0 - best if best >= 0.65 else None
