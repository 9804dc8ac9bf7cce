"""A report as one HTML file: self-contained, silent on the network, readable without JavaScript.

The security policy of the page allows its own styles and the one script whose hash it names, and nothing from
anywhere. Text is escaped by Jinja; figures are SVG that matplotlib wrote and escaped; the numbers stand in the page
as JSON in which nothing can end the element that holds it.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from energyprof.reports.parts import Page

if TYPE_CHECKING:
    from jinja2 import Template

GENERATOR = "energyprof"
_OURS = re.compile(rb'<meta name="generator" content="energyprof\b')
_SCRIPTS = ("report.js", "breakdown.js", "power.js")
_HEAD = 4096  # the generator stands this early in a file of ours
_UNIT = re.compile(r"(?<=\d) (?=(?:[µmkMGTP]?(?:J|W|s|g|FLOP|L|Wh)|%|±|h|min)(?![A-Za-z]))|(?<=±) ")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_SEPARATOR = re.compile(r"[/.](?=[^\s\d])")
_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def render(page: Page, version: str) -> str:
    """The page as HTML, the same for the same page.

    Parameters
    ----------
    version
        The release that writes it.
    """
    from markupsafe import Markup

    script = _script()
    return _template().render(
        page=page,
        generator=f"{GENERATOR} {version}",
        policy=policy(script),
        style=Markup(_text("report.css")),
        script=Markup(script),
        data=Markup(embedded(page.data)),
        svg=Markup,
    )


def policy(script: str) -> str:
    """The page's content security policy: what is in the file, and no request."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def embedded(data: Any) -> str:
    """JSON that is inert inside a script element, whatever it holds."""
    text = json.dumps(jsonable(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return re.sub("[<>&\u2028\u2029]", lambda found: _UNSAFE[found[0]], text)


def jsonable(value: Any, most: int = 2000) -> Any:
    """Plain values for JSON: not a number is null, times are ISO 8601, long texts are cut."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(one, most if key != "data" else 1 << 30) for key, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [jsonable(one, most) for one in value]
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return float(f"{value:.9g}") if math.isfinite(value) else None
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    text = text.encode("utf-8", "replace").decode("utf-8")
    return text if len(text) <= most else text[: most - 1] + "…"


def is_ours(path: str) -> bool:
    """Whether a file is a report of ours, which a new one may replace."""
    with open(path, "rb") as file:
        return _OURS.search(file.read(_HEAD)) is not None


def _script() -> str:
    """The page's one script: its parts in one function, so that they share names with each other and with nobody."""
    parts = "".join(_text(name) for name in _SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}}})();\n'


@functools.lru_cache
def _text(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8").strip() + "\n"


@functools.lru_cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(kept=_kept, breakable=_breakable)
    return environment.from_string(_text("report.html.j2"))


def _kept(text: str) -> str:
    """Text in which no line ends between a number and its unit, or inside an option's name."""
    from markupsafe import Markup, escape

    joined = _UNIT.sub("\u00a0", str(escape(text)))
    return Markup(_OPTION.sub(r'<span class="s">\g<0></span>', joined))


def _breakable(text: str) -> str:
    """A path or a module's name, whose lines may end behind its separators."""
    from markupsafe import Markup, escape

    return Markup(_SEPARATOR.sub(r"\g<0><wbr>", str(escape(text))))
