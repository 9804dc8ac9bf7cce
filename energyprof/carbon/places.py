"""What a user may have meant by a place that the table of countries does not have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SHOWN = 3


def describe_nearest(text: object, table: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the one line for the user: the place is unknown, and these are the nearest ones."""
    found = nearest(text, table) if isinstance(text, str) else []
    names = ", ".join(f"{code} ({table[code].get('country_name', code)})" for code in found)
    hint = f"did you mean {names}?" if names else "country= takes an ISO 3166 alpha-3 code such as FRA."
    return f"no country {repr(text)[:40]} among the {len(table)} known; {hint} Or give intensity= in g/kWh"


def nearest(text: str, table: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return up to three codes, the likeliest first; of equals, the country that generates more electricity.

    Only a name in full is certain, and then stands alone ("Germany" -> DEU).
    """
    wanted = " ".join(text.casefold().split())[:60]
    if not wanted:
        return []
    ranked = []
    for code, row in table.items():
        distance = _distance(wanted, code.casefold(), str(row.get("country_name", "")).casefold())
        if distance is not None:
            ranked.append((distance, -float(row.get("total_TWh") or 0.0), code))
    ranked.sort()
    exact = [code for distance, _, code in ranked if distance == 0.0]
    return exact or [code for _, _, code in ranked[:_SHOWN]]


def _distance(wanted: str, code: str, name: str) -> float | None:
    """Return how far what was typed is from a country, None where it is too far to be worth naming."""
    from difflib import SequenceMatcher

    if wanted == name:
        return 0.0
    if len(wanted) > 1 and wanted == "".join(word[0] for word in name.split()):
        return 1.0  # uk, us, uae
    if len(wanted) == 2 and code.startswith(wanted):
        return 2.0  # most two-letter codes begin the three-letter one
    if len(wanted) == 2 and code[0] == wanted[0] and wanted[1] in code:
        return 3.0  # se -> swe, pt -> prt
    if len(wanted) > 2 and name.startswith(wanted):
        return 4.0  # ger
    if len(wanted) > 3 and wanted in name:
        return 5.0  # korea
    likeness = max(SequenceMatcher(None, wanted, other).ratio() for other in (code, name))
    return 7.0 - likeness if likeness >= 0.65 else None
