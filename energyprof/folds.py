"""What is kept of a stretch of a long run once its marks are folded: sums, estimates, steps.

A fold is one file, `fold.<number>.npz` in the run's folder: a JSON text and the steps as arrays. A region
kind is named by the process and the path id that marks carry, since indices change as processes join.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from energyprof.apportion import Part
from energyprof.attribution import KindSum
from energyprof.intervals import Marks, no_marks
from energyprof.regression import Estimate
from energyprof.tally import Tally

Key = tuple[str, int]  # process, path id
_NAME = re.compile(r"fold\.(\d+)\.npz")
_ARRAYS = {"energy_j": float, "covariance": float, "clustered": float, "shared": float, "states": np.int64}


@dataclass(frozen=True)
class Fold:
    """One stretch, with kinds by their index: the sums of regions, the estimates by meter (None where regions
    ran that nothing could tell), and the steps that ended in it. It ends at `until_ns`. Of a damaged one
    nothing is known but that there was one."""

    until_ns: int
    sums: Mapping[int, KindSum]
    parts: Mapping[str, Sequence[Part] | None]
    steps: Marks
    damaged: bool = False


def write(folder: str, fold: Fold, keys: Sequence[Key]) -> None:
    """Store the next fold of a run, whole or not at all."""
    numbers = [int(found[1]) for found in map(_NAME.fullmatch, os.listdir(folder)) if found]
    text = {
        "until_ns": fold.until_ns,
        "keys": list(keys),
        "sums": {str(index): dataclasses.asdict(one) for index, one in fold.sums.items()},
        "parts": {name: _plain(parts) for name, parts in fold.parts.items()},
        "devices": list(fold.steps.device),
    }
    steps = fold.steps
    arrays: dict[str, Any] = {
        "kind": steps.kind,
        "thread": steps.thread,
        "begin": steps.begin_ns,
        "end": steps.end_ns,
    }
    for number, (begin, end) in enumerate(steps.device.values()):
        arrays[f"begin{number}"], arrays[f"end{number}"] = begin, end
    path = os.path.join(folder, f"fold.{max(numbers, default=-1) + 1}.npz")
    with open(f"{path}.part", "wb") as file:
        np.savez_compressed(file, text=np.frombuffer(json.dumps(text).encode(), np.uint8), **arrays)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.part", path)


def read(folder: str, index_of: Mapping[Key, int]) -> list[Fold]:
    """All folds of a run, in the order of time."""
    names = [found for found in map(_NAME.fullmatch, os.listdir(folder)) if found]
    return [
        _read(os.path.join(folder, found[0]), index_of) for found in sorted(names, key=lambda f: int(f[1]))
    ]


def _damaged(index_of: Mapping[Key, int]) -> Fold:
    nothing = KindSum(0, 0.0, 0, False, {})  # without a meter's tally that meter has no figure
    return Fold(0, dict.fromkeys(index_of.values(), nothing), {}, no_marks(), damaged=True)


def _read(path: str, index_of: Mapping[Key, int]) -> Fold:
    try:
        with open(path, "rb") as file, np.load(io.BytesIO(file.read())) as arrays:
            text = json.loads(arrays["text"].tobytes())
            now = np.array([index_of[stem, ident] for stem, ident in text["keys"]], np.int64)
            return Fold(
                until_ns=int(text["until_ns"]),
                sums={int(now[int(index)]): _sum(one) for index, one in text["sums"].items()},
                parts={name: _parts(parts, now) for name, parts in text["parts"].items()},
                steps=_steps(arrays, text["devices"], now),
            )
    except (KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error):
        return _damaged(index_of)


def _steps(arrays: Any, devices: Sequence[str], now: NDArray[np.int64]) -> Marks:
    if len(arrays["kind"]) == 0:
        return no_marks()
    device = {name: (arrays[f"begin{n}"], arrays[f"end{n}"]) for n, name in enumerate(devices)}
    kind = now[arrays["kind"]].astype(np.int32)
    return Marks(kind, arrays["thread"], arrays["begin"], arrays["end"], device)


def _sum(one: dict[str, Any]) -> KindSum:
    return KindSum(**{**one, "tallies": {name: Tally(**t) for name, t in one["tallies"].items()}})


def _plain(parts: Sequence[Part] | None) -> Any:
    if parts is None:
        return None
    rows = []
    for part in parts:
        facts = {field.name: getattr(part.result, field.name) for field in dataclasses.fields(Estimate)}
        rows.append({**{k: v.tolist() if k in _ARRAYS else v for k, v in facts.items()}, "edges": part.edges})
    return rows


def _today(states: Sequence[int], now: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(int(now[k]) if k >= 0 else int(k) for k in states)


def _parts(rows: Any, now: NDArray[np.int64]) -> list[Part] | None:
    """Estimates with the states' indices of today, ascending."""
    if rows is None:
        return None
    parts = []
    for row in rows:
        facts: dict[str, Any] = {
            k: np.array(v, _ARRAYS[k]) if k in _ARRAYS else v for k, v in row.items() if k != "edges"
        }
        states = facts["states"]
        states = np.where(states >= 0, now[np.maximum(states, 0)] if len(now) else states, states)
        order = np.argsort(states)
        facts.update(
            states=states[order],
            energy_j=facts["energy_j"][order],
            covariance=facts["covariance"][np.ix_(order, order)],
            clustered=facts["clustered"][order],
            shared=facts["shared"][:, order],
            per_call=_today(facts["per_call"], now),
            halved=_today(facts.get("halved", ()), now),  # folds of older releases know of none
        )
        parts.append(Part(Estimate(**facts), int(row["edges"])))
    return parts
