"""The table of docs/cost.md from the stored rows of cost.py."""

from __future__ import annotations

from typing import Any


def markdown(rows: dict[str, Any]) -> str:
    return str(list(rows))
