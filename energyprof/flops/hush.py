"""Hooks on all modules, for a while, without PyTorch's warning about them beside compiled modules.

The warning says that such hooks may fire once more; ours may, and are gone at once. It would be on the stderr of
a program that has done nothing for it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

_ABOUT = r"Using `torch\.compile\(module\)` when there are global hooks"


def hush() -> Callable[[], None]:
    """Keep that warning back until the function that is returned is called."""
    warnings.filterwarnings("ignore", message=_ABOUT)
    mine = warnings.filters[0]

    def speak() -> None:
        while mine in warnings.filters:
            warnings.filters.remove(mine)  # type: ignore[attr-defined]
            getattr(warnings, "_filters_mutated", lambda: None)()  # what was decided with it is forgotten

    return speak
