"""What a kilowatt-hour costs: one price, one that changes with the hour of the day, or a file of prices by time.

0.25 EUR                                 one price
0.30 EUR, 22-6 0.18, Europe/Paris        another from 22 to 6 o'clock, in that zone (else the machine's)
prices.csv EUR                           a file of times and prices, as of intensities
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import datetime, timezone, tzinfo
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from energyprof.carbon.series import Floats, Series

MAX_PER_KWH = 1e5  # in any currency; the dearest electricity is below one euro
_FORM = (
    "write it as '0.25 EUR', as '0.30 EUR, 22-6 0.18' with the hours of another price, or as 'prices.csv EUR'"
)
_FILES = (".csv", ".parquet", ".pq")
_CURRENCY = r"[A-Za-z]{3}|[€$£¥₹]"
_HUNDREDTHS = re.compile(r"(?<![a-z])(c|ct|cts|cents?|p|pence|öre|øre)(?![a-z])|¢")
_SIGNS = {"€": "EUR", "$": "USD", "£": "GBP", "¥": "JPY", "₹": "INR"}


@dataclass(frozen=True)
class Price:
    """A price a kWh in `currency` (ISO 4217, or empty where none was said), in all hours but those of `hours`.

    `hours` are (first, end, price): from the first hour of the day to the end, over midnight where that is
    smaller. `series` takes the place of both.
    """

    currency: str
    per_kwh: float = 0.0
    hours: tuple[tuple[int, int, float], ...] = ()
    zone: str = ""
    series: Series | None = None

    @property
    def constant(self) -> bool:
        return not self.hours and self.series is None

    def at_hour(self, hour: int) -> float:
        """The price at an hour of the day; of hours said twice, the last counts."""
        price = self.per_kwh
        for first, end, other in self.hours:
            if first <= hour < end or (first >= end and (hour >= first or hour < end)):
                price = other
        return price

    def over(self, begin_s: float, end_s: float) -> Series:
        """The price by time, over a time in seconds since 1970."""
        import numpy as np

        from energyprof.carbon.series import Series

        if self.series is not None:
            return self.series
        edges, prices = [begin_s], []
        while edges[-1] < end_s:
            zone = _zone(self.zone)
            moment = datetime.fromtimestamp(edges[-1], timezone.utc).astimezone(zone)
            past = moment.minute * 60 + moment.second + moment.microsecond / 1e6
            prices.append(self.at_hour(moment.hour))
            edges.append(min(end_s, edges[-1] + 3600.0 - past))
        return Series(np.array(edges[:-1]), np.array(prices), end_s)

    def describe(self) -> str:
        """The price in words."""
        if self.series is not None:
            return self.series.source
        parts = [f"{self.per_kwh:g} {self.currency}/kWh".replace(" /", "/")]
        parts += [f"{first}-{end} h {price:g}" for first, end, price in self.hours]
        zone = [self.zone or "by the machine's clock"] if self.hours else []
        return ", ".join([*parts, *zone])


def parse(said: Any) -> Price:
    """The price that a number or a text tells; ValueError with one line where it tells none."""
    if isinstance(said, (int, float)) and not isinstance(said, bool):
        return Price("", _amount(said))
    if not isinstance(said, str) or not said.strip():
        raise ValueError(f"price is {str(said)[:40]!r}; {_FORM}")
    path, currency = _split(said)
    if path.lower().endswith(_FILES):
        from energyprof.carbon.series_file import read

        return Price(currency, series=read(path, _prices, "price"))
    parts = [part.strip() for part in said.split(",")]
    first, currency = _split(parts[0])
    price, hours, zone = _amount(first, said), [], ""
    for part in parts[1:]:
        match = re.fullmatch(r"(\d{1,2})\s*(?:-|–|to)\s*(\d{1,2})\s*h?\s+(\S.*)", part)
        if match and int(match[1]) < 24 and int(match[2]) <= 24 and match[1] != match[2]:
            other, its_currency = _split(match[3])
            if its_currency not in ("", currency):
                raise ValueError(
                    f"price is {said[:60]!r}, in {currency or 'no currency'} and {its_currency}; choose one"
                )
            hours.append((int(match[1]), int(match[2]), _amount(other, said)))
        elif "/" in part or part.upper() == "UTC":
            _zone(part)
            zone = part
        else:
            raise ValueError(f"price is {said[:60]!r}: {part[:30]!r} is not understood; {_FORM}")
    return Price(currency, price, tuple(hours), zone)


def absolute(said: str) -> str:
    """The same price, the path of its file absolute where it has one."""
    path, currency = _split(said)
    if not path.lower().endswith(_FILES):
        return said
    return f"{os.path.abspath(os.path.expanduser(path))} {currency}".rstrip()


def _split(text: str) -> tuple[str, str]:
    """An amount (or a file) and its currency, which may stand on either side or not at all."""
    text = re.sub(r"\s*/\s*kWh\s*$", "", text.strip(), flags=re.IGNORECASE)
    match = re.fullmatch(rf"(?:({_CURRENCY})(?=[\s\d.]))?\s*(.*?)\s*(?:(?<![A-Za-z.])({_CURRENCY}))?", text)
    assert match is not None  # anything fits the middle
    currency = match[1] or match[3] or ""
    return match[2], _SIGNS.get(currency, currency.upper())


def _amount(said: Any, whole: Any = None) -> float:
    try:
        value = float(said)
    except (TypeError, ValueError):
        value = float("nan")
    if not 0 <= value < MAX_PER_KWH:
        raise ValueError(f"price is {str(said if whole is None else whole)[:60]!r}; {_FORM}")
    return value


def _prices(value: Floats, column: str) -> Floats:
    """Prices of a file. Below zero is no fault: at times a market pays for what is taken."""
    import numpy as np

    if "mwh" in column.casefold():
        raise ValueError(f"{column!r} is a MWh's; give the price of a kWh")
    if _HUNDREDTHS.search(column.casefold()):
        raise ValueError(f"{column!r} is in hundredths; give the price in the currency itself, such as 0.25")
    if not (np.abs(value[~np.isnan(value)]) < MAX_PER_KWH).all():
        raise ValueError(f"{column!r} has prices beyond {MAX_PER_KWH:,.0f} a kWh")
    return value


def _zone(name: str) -> tzinfo | None:
    if not name:
        return None
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"no time zone {name[:40]!r}; such as Europe/Paris or UTC") from None
