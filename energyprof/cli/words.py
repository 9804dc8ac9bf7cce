"""What the command line says of itself: one line a message, on stderr, and never a fault because of it."""

from __future__ import annotations

import os
import sys


def say(text: str) -> None:
    """One line of ours on stderr, whatever is in it."""
    from energyprof.reports.numbers import clean

    show(f"energyprof: {clean(text)}")


def columns() -> int | None:
    """The width of the terminal to which stdout goes; None where that is none."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError, AttributeError):
        return None


def show(text: str) -> None:
    """Text on stderr. Where that is closed or full, nobody can be told, and nothing else changes."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        # What is left in its buffer would fail again when Python ends, and change our exit status.
        sys.stderr = None  # pyright: ignore[reportAttributeAccessIssue]
