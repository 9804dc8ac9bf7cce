"""What a paper or a model card says of a run: `show --statement`. Data in, text out; reads no files.

Every figure stands with its interval, method, place, year and source, and what was not measured is named, so that
the text can be published as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from energyprof.carbon.intensity import GIVEN_SCOPE
from energyprof.reasons import ASSUMED_LOCATION, INTENSITY_FALLBACK, MEANING, SHARED_DEVICE
from energyprof.reports.numbers import clean, duration, energy, money, quantity, ranged

FORMS = ("all", "text", "latex", "yaml")
_KWH = 3.6e6
# What changes how the figures are to be read; the other flags are in the run.
_TOLD = (SHARED_DEVICE, INTENSITY_FALLBACK)

_LATEX = {"€": "EUR", "±": r"$\pm$", "×": r"$\times$", "µ": r"$\mu$", "—": "---", "–": "--"}

Run = Mapping[str, Any]


def statement(run: Run, channels: Sequence[Run], form: str) -> list[str]:
    """The statement in one of `FORMS`, as lines."""
    text = paragraph(run, channels)
    forms = {"text": [text], "latex": latex(text), "yaml": model_card(run, channels)}
    if form != "all":
        return forms[form]
    titles = {"text": "For a text", "latex": "For LaTeX", "yaml": "For a model card (YAML, Hugging Face)"}
    return [line for name, title in titles.items() for line in (f"# {title}", "", *forms[name], "")][:-1]


def paragraph(run: Run, channels: Sequence[Run]) -> str:
    """The run in a few sentences; intervals are of 95 %."""
    return " ".join(
        [_work(run), *_energy(run, channels), *_grams(run), *_apart(run), *_limits(run), _by(run)]
    )


def latex(text: str) -> list[str]:
    """The same for LaTeX: its special characters escaped, units with a thin space."""
    text = re.sub(r"([\\{}$&#_%~^])", _escaped, text)
    text = re.sub(r'"([^"]*)"', r"``\1''", text)
    for sign, command in _LATEX.items():
        text = text.replace(sign, command)
    text = re.sub(r"CO2e?\b", lambda match: match[0].replace("CO2", r"CO$_2$"), text)
    return [re.sub(r"(?<=\d) (?=(?:[kMGTPm]|\$\\mu\$)?(?:J|W|Wh|g|L|s|ms|min|h)\b|\\%)", r"\\,", text)]


def model_card(run: Run, channels: Sequence[Run]) -> list[str]:
    """`co2_eq_emissions` of a model card's metadata: grams of CO2e, source, place and hardware."""
    if run["co2e_g"] is None:
        return [f"# no emissions: the run has no energy ({run['reason'] or 'unknown'})"]
    kind = json.loads(run["tags"] or "{}").get("training_type")
    place = run.get("intensity_place_name") or run["intensity_place"] or "not given"
    fields = {
        "emissions": f"{_number(run['co2e_g'])}  # grams of CO2e, operational{_interval(run)}",
        "source": _quoted(paragraph(run, channels)),
        "training_type": _quoted(kind) if kind else None,
        "geographical_location": _quoted(place),
        "hardware_used": _quoted(run["hardware"] or "not known"),
    }
    return ["co2_eq_emissions:", *(f"  {name}: {text}" for name, text in fields.items() if text is not None)]


def _work(run: Run) -> str:
    day = f" on {run['started_utc']:%Y-%m-%d}" if run["started_utc"] else ""
    steps = f" and {run['steps']:,} steps" if run["steps"] else ""
    nodes = f" by {run['ranks']} processes" if (run["ranks"] or 1) > 1 else ""
    hardware = f" ({clean(run['hardware'])})" if run["hardware"] else ""
    name = clean(run["name"] or "run")
    ended = {"failed": ", which failed,", "killed": ", which was killed,"}.get(run["status"] or "", "")
    if run["status"] == "recovered":
        return (
            f'Of the run "{name}"{day}, only its first {duration(run["duration_s"])}{steps}{nodes} were recorded, '
            f"on one machine{hardware}: what follows is a lower bound of the whole."
        )
    return f'The run "{name}"{ended}{day} took {duration(run["duration_s"])}{steps}{nodes} on one machine{hardware}.'


def _energy(run: Run, channels: Sequence[Run]) -> list[str]:
    if run["energy_j"] is None:
        return [f"Its energy is not known ({MEANING.get(run['reason'] or '', run['reason'] or 'no meter')})."]
    kwh = energy(run["energy_j"] / _KWH * 1e3, (run["u95_j"] or 0.0) / _KWH * 1e3, unit="Wh")
    parts = [f"It drew {energy(run['energy_j'], run['u95_j'])} ({kwh}; 95 % interval)."]
    counted = [c for c in channels if c["in_total"] and c["energy_j"]]
    for title, wanted in (("Measured", False), ("Modelled, not measured", True)):
        chosen = [c for c in counted if (c["method"] == "modelled") == wanted]
        if chosen:
            share = 100 * sum(c["energy_j"] for c in chosen) / run["energy_j"]
            names = ", ".join(f"{c['channel']} by {_how(c)}" for c in chosen[:6])
            more = f", and {len(chosen) - 6} more" if len(chosen) > 6 else ""
            parts.append(f"{title}: {share:.0f} % of it ({names}{more}).")
    if run.get("allocated_j") is not None and SHARED_DEVICE in (run["flags"] or "").split(","):
        share = 100 * run["allocated_j"] / run["energy_j"]
        used = f"{quantity(run['allocated_j'], 'J')} of it ({share:.0f} %, as of the grams)"
        parts.append(f"Other programs used the machine too; by use, {used} are this program's.")
    return parts


def _how(channel: Run) -> str:
    words = {
        "counter": "its energy counter",
        "integrated": "its power sensor, integrated",
        "modelled": "a model",
    }
    return words.get(channel["method"], str(channel["method"]))


def _grams(run: Run) -> list[str]:
    if run["co2e_g"] is None:
        return []
    lo, hi = run.get("co2e_lo_g"), run.get("co2e_hi_g")
    grams = quantity(run["co2e_g"], "g") if lo is None or hi is None else ranged(run["co2e_g"], lo, hi, "g")
    place = run.get("intensity_place_name") or run["intensity_place"]
    where = "the world average, as the place was not given" if _assumed(run) else place
    given = (
        run.get("intensity_scope") == GIVEN_SCOPE
    )  # perhaps a supplier's: by which accounting, nobody said
    scope = None if given else run.get("intensity_scope")
    if given and not run["intensity_place"]:
        where = ""
    details = [where, str(run["intensity_year"] or ""), scope, run["intensity_source"]]
    told = "; ".join(dict.fromkeys(clean(part) for part in details if part))
    pue = (
        f" and a PUE of {run['pue']:g} ({_ends(run, 'pue')}{clean(run['pue_source'])})"
        if run.get("pue")
        else ""
    )
    without = "" if run.get("pue") else " PUE is not included."
    accounting = "" if given else ", location-based"
    at = f"{run['intensity_g_per_kwh']:.4g}{_interval_of_intensity(run)} g CO2e/kWh ({told})"
    return [f"At {at}{pue}, operational emissions were {grams} CO2e{accounting}.{without}"]


def _apart(run: Run) -> list[str]:
    parts = []
    if run.get("embodied_g") is not None:
        grams = ranged(run["embodied_g"], run["embodied_lo_g"], run["embodied_hi_g"], "g")
        parts.append(
            f"Apart from that, making the devices is put at {grams} CO2e ({clean(run['embodied_source'])})."
        )
    if run.get("water_l") is not None:
        litres = ranged(run["water_l"], run["water_lo_l"], run["water_hi_l"], "L")
        wue = (
            f"WUE {run['wue_l_per_kwh']:g} L/kWh, {_ends(run, 'wue', '_l_per_kwh')}{clean(run['wue_source'])}"
        )
        parts.append(f"Water on the site: {litres} ({wue}).")
    if run.get("cost") is not None:
        sum_ = money(run["cost"], run["cost_lo"], run["cost_hi"], run["cost_currency"])
        parts.append(f"Electricity: {sum_} ({clean(run['price_source'])}).")
    return parts


def _limits(run: Run) -> list[str]:
    """What was not measured, and what else the reader must know."""
    missing = [m["source"] for m in json.loads(run["missing"] or "[]")]
    parts = [f"Not read: {', '.join(missing[:6])}."] if missing else []
    flags = set((run["flags"] or "").split(",")) - (
        {SHARED_DEVICE} if run.get("allocated_j") is not None else set()
    )
    return parts + [f"Note: {MEANING[flag].split(';')[0]}." for flag in _TOLD if flag in flags]


def _by(run: Run) -> str:
    return f"Figures and intervals by energyprof {run['energyprof']}, run {run['run_id']}."


def _assumed(run: Run) -> bool:
    return ASSUMED_LOCATION in (run["flags"] or "").split(",")


def _interval(run: Run) -> str:
    lo, hi = run.get("co2e_lo_g"), run.get("co2e_hi_g")
    return "" if lo is None or hi is None else f", 95 % interval {lo:.4g} to {hi:.4g}"


def _interval_of_intensity(run: Run) -> str:
    """ " (18 to 177)"; empty where it was taken as it is, or by an older release."""
    lo, hi = run.get("intensity_lo_g_per_kwh"), run.get("intensity_hi_g_per_kwh")
    return "" if lo is None or hi is None or lo == hi else f" ({lo:.4g} to {hi:.4g})"


def _ends(run: Run, name: str, unit: str = "") -> str:
    """ "1.04 to 1.44; "; empty where the figure was taken as it is, or by an older release."""
    lo, hi = run.get(f"{name}_lo{unit}"), run.get(f"{name}_hi{unit}")
    return "" if lo is None or hi is None or lo == hi else f"{lo:g} to {hi:g}; "


def _number(value: float) -> str:
    """Six digits; YAML 1.1 takes what has an exponent and no point for text."""
    digits, mark, exponent = f"{value:.6g}".partition("e")
    return f"{digits}{'.0' if mark and '.' not in digits else ''}{mark}{exponent}"


def _quoted(text: object) -> str:
    """A double-quoted scalar: JSON strings are YAML's."""
    return json.dumps(clean(text), ensure_ascii=False)


def _escaped(match: re.Match[str]) -> str:
    words = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return words.get(match[0]) or "\\" + match[0]
