"""Words for what cannot be read. Apart from `base`, so that a run's start need not load dataclasses."""

from __future__ import annotations


class Unavailable(Exception):
    """A source that cannot be read: why (a code of `energyprof.reasons`), in words, and what to do.

    Collectors raise it from `open` when nothing can be read, and list it in `Opened.missing` when
    something can. `channel` is what would be read, where another meter may make up for it.
    """

    def __init__(self, source: str, reason: str, detail: str, remedy: str = "", channel: str = "") -> None:
        super().__init__(f"{source}: {detail}")
        self.source = source
        self.reason = reason
        self.detail = detail
        self.remedy = remedy
        self.channel = channel

    def facts(self) -> dict[str, str]:
        """As JSON values."""
        return {
            "source": self.source,
            "reason": self.reason,
            "detail": self.detail,
            "remedy": self.remedy,
        }


class DeviceLost(Exception):
    """Raised by a group's `read` when its device will not come back: the meter ends the group."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
