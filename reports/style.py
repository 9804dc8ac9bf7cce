"""How figures look, and how they become files: one palette, no global state, the same bytes each time.

Colours are Paul Tol's "vibrant" and his diverging blue and red, made for colour-blind readers (Tol, "Colour schemes",
SRON/EPS/TN/09-002, issue 3.2, 2021). No figure rests on colour alone: lines differ in dashes and carry their names.
"""

from __future__ import annotations

import functools
import io
import os
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, TEAL, MAGENTA, CYAN, RED, GREY = (
    "#0077bb", "#ee7733", "#009988", "#ee3377", "#33bbee", "#cc3311", "#8a8f98",
)  # fmt: skip
CYCLE = (BLUE, ORANGE, TEAL, MAGENTA, CYAN, RED)
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1.5, 1.2)),
    (0, (6, 1.5, 1.5, 1.5)),
    (0, (3, 3)),
    (0, (8, 2)),
)
LESS, MORE = "#2166ac", "#b2182b"  # less energy, more energy
INK = "#010203"  # stands for the page's own text colour; see `inlined`
_KINDS = ("gpu", "package", "dram", "psys", "module", "node")
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "energyprof",
    "pdf.fonttype": 42,
    "path.simplify": True,
}
_FORMATS = ("png", "svg", "pdf")
_DPI = 160
_PIXELS = 952 / 576  # of a page a point: a figure of 8 inches is as wide as the text's column in report.css


def rank_of(channel: str, place: int = 0) -> int:
    """Which colour and dashes a channel has: gpu:0 the first, package:0 the second …"""
    kind, _, number = channel.partition(":")
    if kind not in _KINDS:
        return place
    return _KINDS.index(kind) + (int(number) if number.isdecimal() else 0)


def ranks(channels: Sequence[str]) -> list[int]:
    """As `rank_of`, but no two of one figure alike as long as there are enough."""
    taken: list[int] = []
    for place, name in enumerate(channels):
        rank = rank_of(name, place) % len(CYCLE)
        while rank in taken and len(taken) < len(CYCLE):
            rank = (rank + 1) % len(CYCLE)
        taken.append(rank)
    return taken


def figure(width: float, height: float, laid_out: bool = True) -> Figure:
    """An empty figure in inches, its text and lines in `INK`; who says `laid_out=False` places the axes (`placed`)."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained" if laid_out else None)
    made.patch.set_alpha(0.0)
    return made


def axes(made: Figure, *position: Any, **options: Any) -> Axes:
    """Axes without a frame: two thin lines, a faint grid, small words."""
    drawn: Axes = made.add_subplot(*position, **options)
    drawn.patch.set_alpha(0.0)
    for side in ("top", "right"):
        drawn.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        drawn.spines[side].set_color(INK)
        drawn.spines[side].set_linewidth(0.6)
    drawn.tick_params(colors=INK, labelsize=9, width=0.6, length=3)
    drawn.set_axisbelow(True)
    return drawn


def placed(
    made: Figure,
    rows: int,
    columns: int,
    margins: tuple[float, float, float, float],
    gaps: tuple[float, float],
) -> None:
    """Make room around a grid of panels, in inches: left, right, bottom, top; between columns and rows.

    Of twenty panels it takes half the time of a layout that asks each text for its size.
    """
    (wide, high), (left, right, bottom, top) = made.get_size_inches(), margins
    across = (wide - left - right - gaps[0] * (columns - 1)) / columns
    along = (high - bottom - top - gaps[1] * (rows - 1)) / rows
    made.subplots_adjust(
        left / wide, bottom / high, 1 - right / wide, 1 - top / high, gaps[0] / across, gaps[1] / along
    )


def grid(drawn: Axes, axis: Any) -> None:
    """Faint lines across one axis."""
    drawn.grid(axis=axis, color=GREY, linewidth=0.4, alpha=0.4)


def words(drawn: Axes, title: str = "", x: str = "", y: str = "") -> None:
    """Title at the left, names of the axes with their units."""
    if title:
        drawn.set_title(plain(title, 200), loc="left", fontsize=10.5, color=INK, pad=10, y=1.0)
    drawn.set_xlabel(x, fontsize=9, color=INK)
    drawn.set_ylabel(y, fontsize=9, color=INK)


def plain(text: str, most: int = 60) -> str:
    """Text that matplotlib takes as it is ($ would begin a formula), not too long."""
    text = text if len(text) <= most else text[: most - 1] + "…"
    return text.replace("$", r"\$")


@functools.lru_cache(maxsize=4096)  # a page asks some thousand times, mostly for the same names
def width_of(text: str, size: float) -> float:
    """How wide a text is, in inches, in the font of the files; a page's own font may be some per cent wider."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # letters that the font lacks are as wide as its box
        found = text_to_path.get_text_width_height_descent(
            text[:500], FontProperties(family=["DejaVu Sans"], size=size), ismath=False
        )
    return float(found[0]) / 72


def fitting(text: str, size: float, room: float) -> str:
    """As much of a text as there is room for, in inches; nothing where not even three letters have it."""
    if width_of(text, size) <= room:
        return text
    for most in range(min(len(text), 100) - 1, 2, -1):
        cut = text[:most].rstrip() + "…"
        if width_of(cut, size) <= room:
            return cut
    return ""


def svg(made: Figure) -> str:
    """The figure as SVG: of a figure drawn anew from the same data, byte for byte the same."""
    return _rendered(made, "svg").decode("utf-8")


def save(made: Figure, path: str) -> None:
    """Write a figure; the format follows from the name's ending.

    Raises
    ------
    ValueError
        The ending is none of png, svg, pdf.
    OSError
        It cannot be written.
    """
    ending = os.path.splitext(path)[1].lower().lstrip(".")
    if ending not in _FORMATS:
        raise ValueError(f"{path}: the name must end in .png, .svg or .pdf")
    data = _rendered(made, ending, on_white=True)
    with open(path, "wb") as file:
        file.write(data)


def _rendered(made: Figure, ending: str, on_white: bool = False) -> bytes:
    import matplotlib as mpl

    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(ending, {})
    if on_white:
        made.patch.set_alpha(1.0)
    with mpl.rc_context({**_SETTINGS, "font.family": ["DejaVu Sans"]}), warnings.catch_warnings():
        # Names may be in any script; an SVG leaves them to whoever shows it.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        made.savefig(buffer, format=ending, metadata=metadata, dpi=_DPI)
    if on_white:
        made.patch.set_alpha(0.0)
    data = buffer.getvalue()
    return data.replace(INK.encode(), b"#1a1d21") if ending == "svg" and on_white else data


def inlined(made: Figure, name: str, description: str) -> str:
    """The figure as an element of a page: text in the page's colour and font, no style of its own (the page's
    security policy forbids it), ids that no other figure has, a title for screen readers."""
    text = svg(made)
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"<style[^>]*>.*?</style>", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r' style="([^"]*)"', lambda found: _attributes(found[1]), text)
    text = text.replace(INK, "currentColor")
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", text)
    text = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d+\.\d{2})\d+", r"\1", tag[0]), text)  # not in labels
    text = re.sub(r"\s*\n\s*", "\n", text)
    head, _, rest = text.partition(">")
    box = re.search(r'viewBox="([^"]+)"', head)
    assert box is not None
    width, height = (round(float(side) * _PIXELS) for side in box[1].split()[2:])
    title = f'<title id="{name}-t">{_escaped(description)}</title>'
    size = f'width="{width}" height="{height}" viewBox="{box[1]}"'
    return f'<svg class="drawn" role="img" aria-labelledby="{name}-t" {size}>{title}{rest}'


def _attributes(style: str) -> str:
    """`style` as attributes of their own; the shorthand of a font keeps its size alone."""
    made = []
    for part in style.split(";"):
        key, _, value = (word.strip() for word in part.partition(":"))
        if key == "font":
            size = re.search(r"([\d.]+)px", value)
            bold = "bold" in value or re.search(r"\b[67]00\b", value)
            made += [f'font-size="{size[1]}"'] if size else []
            made += ['font-weight="600"'] if bold else []
        elif key and key != "transform-box":
            made.append(f'{key}="{value}"')
    return (" " + " ".join(made)) if made else ""


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
