"""Which sensors stand behind a group's joules, and how much of their gain is left in a ratio of two groups.

A sensor's gain error e_c is one number for all it ever reads. With w_c the sensor's share of a group's joules, the
log of the group's energy is off by the sum of w_c e_c, and the log of a ratio by

    sum over sensors of (w_c of B - w_c of A) e_c

so that the gain cancels where both groups ran on one board, adds in quadrature where they did not, and cancels
in part where they share some boards. A board is known by its UUID; what has none (a processor's counters) by
machine, channel and model.

A model of power that stands in for a meter has no gain: its error changes with the load. On one machine and with
one model it cancels as far as both groups had the same load; what is left is taken to grow in proportion to
the difference of the modelled power, up to two independent errors where one has all of it:
sqrt(2) w e |P_B - P_A| / max(P_A, P_B), with w the mean share.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from energyprof import jsontext

Row = Mapping[str, Any]
_Z95 = 1.96
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Source:
    """One sensor or model in a group's total: its share of the joules, its gain (standard deviation,
    relative), its mean power, and whether it is a model."""

    share: float
    gain_sd: float
    watts: float
    modelled: bool


def device(channel: Row) -> dict[str, Any]:
    """The facts of a channel's device; empty where they cannot be read."""
    return jsontext.mapping(channel.get("device"))


def identity(channel: Row) -> str:
    """One text a sensor, wherever it is met again."""
    facts = device(channel)
    if channel.get("method") == "modelled":
        # Another processor power, amount of memory or source of either is another model.
        settings = json.dumps({k: v for k, v in facts.items() if k != "driver"}, sort_keys=True)
        return f"model {channel['node']} {channel['channel']} {settings}"
    how = channel.get("method")  # a board's counter and its gauge are two sensors
    if facts.get("uuid"):
        return f"{str(channel['channel']).split(':')[0]} {facts['uuid']} {how}"
    return f"{channel['node']} {channel['channel']} {facts.get('model', '')} {how}"


def sources(runs: Sequence[Row], channels: Mapping[str, Sequence[Row]]) -> dict[str, Source]:
    """The sensors behind the joules of a group's runs; each run counts alike.

    Parameters
    ----------
    runs
        Rows of runs.
    channels
        The rows of `channels` of each run, by run_id.
    """
    shares: dict[str, float] = {}
    gains: dict[str, float] = {}
    watts: dict[str, float] = {}
    modelled: dict[str, bool] = {}
    counted = [run for run in runs if run.get("energy_j")]
    for run in counted:
        for name, joules, gain, is_model in _parts(run, channels.get(run["run_id"], ())):
            part = joules / run["energy_j"] / len(counted)
            shares[name] = shares.get(name, 0.0) + part
            gains[name] = max(gains.get(name, 0.0), gain)
            watts[name] = watts.get(name, 0.0) + joules / (run.get("duration_s") or 1.0) / len(counted)
            modelled[name] = is_model
    return {name: Source(shares[name], gains[name], watts[name], modelled[name]) for name in shares}


def _parts(run: Row, channels: Sequence[Row]) -> list[tuple[str, float, float, bool]]:
    """Name, joules, gain and whether it is a model, of what is in a run's total."""
    counted = [c for c in channels if c.get("in_total") and c.get("energy_j")]
    if (
        not counted
    ):  # that part of the dataset is missing: a board that no other group has, with the run's gain
        gain = (run.get("u_gain_j") or 0.0) / run["energy_j"] / _Z95
        return [(_UNKNOWN, run["energy_j"], gain, False)]
    return [
        (
            identity(c),
            c["energy_j"],
            (c.get("u_gain_j") or 0.0) / c["energy_j"] / _Z95,
            c.get("method") == "modelled",
        )
        for c in counted
    ]


def same(a: Mapping[str, Source], b: Mapping[str, Source]) -> bool:
    """Whether the joules of both are from the same sensors."""
    return bool(a) and set(a) == set(b) and _UNKNOWN not in a


def left_over(a: Mapping[str, Source], b: Mapping[str, Source]) -> float:
    """The standard deviation, from the sensors' gain, of the log of the ratio of two groups' energies."""
    squares = 0.0
    for name in set(a) | set(b):
        mine, other = a.get(name), b.get(name)
        if name == _UNKNOWN:
            squares += sum((source.share * source.gain_sd) ** 2 for source in (mine, other) if source)
            continue
        share = (other.share if other else 0.0) - (mine.share if mine else 0.0)
        gain = max(source.gain_sd for source in (mine, other) if source)
        squares += (share * gain) ** 2
        if mine and other and mine.modelled:
            most = max(mine.watts, other.watts)
            apart = abs(mine.watts - other.watts) / most if most > 0 else 0.0
            squares += 2 * ((mine.share + other.share) / 2 * gain * apart) ** 2
    return math.sqrt(squares)
