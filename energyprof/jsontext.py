"""JSON in the columns of a dataset: tags, metrics, arguments. Whatever stands there, it is read or it is nothing."""

from __future__ import annotations

import json
import math
from typing import Any


def mapping(text: object) -> dict[str, Any]:
    """The object that a text holds; empty where it holds none."""
    found = _value(text)
    return found if isinstance(found, dict) else {}


def sequence(text: object) -> list[Any]:
    """The list that a text holds, or the one value; empty where it is no JSON."""
    found = _value(text)
    return found if isinstance(found, list) else [] if found is None else [found]


def number(value: object) -> float | None:
    """A number, also as a text; None for anything else. A whole number beyond all floats is infinite."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None
    except OverflowError:
        return math.inf if int(value) > 0 else -math.inf


def _value(text: object) -> Any:
    if not isinstance(text, str) or text in ("", "{}", "[]"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # the latter for brackets some thousands deep
        return None
