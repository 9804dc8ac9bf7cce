"""What sealing makes of the layers that a program noted: columns of the run's row, and the layers table.

A run is more than its layers: what cannot be read of them is left out, and the run is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from energyprof import store
from energyprof.layers import reading
from energyprof.layers.in_place_energy import in_place
from energyprof.layers.in_place_rows import layer_rows, run_flops, step_facts
from energyprof.layers.reading import LayerLog
from energyprof.runlog import RunLog
from energyprof.tally import Meter


def noted(folder: str, log: RunLog, flags: set[str]) -> list[LayerLog]:
    """The layer logs of a run's folder, that of the most FLOPs first; adds what flags they have to `flags`."""
    try:
        found = reading.load(folder, log)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return []
    flags.update(flag for layers in found for flag in layers.flags)
    return sorted(found, key=lambda one: -(run_flops(one) or (0.0, 0.0))[1])


def run_columns(layers: Sequence[LayerLog]) -> dict[str, Any]:
    """FLOPs of the whole run over its ranks, where every call of the models was counted, and what is not known."""
    called = [layer for layer in layers if layer.occurred]
    told = called or layers  # a launcher, say, has no model of its own
    notes = "; ".join(dict.fromkeys(note for layer in told for note in layer.notes))
    facts = {**(step_facts(told[0]) if told else {}), "layer_notes": notes or None}
    found = [run_flops(layer) for layer in called]
    known = [one for one in found if one is not None]
    if not known or len(known) < len(found):
        return facts
    model, hardware = (sum(side) for side in zip(*known))
    return {**facts, "flops_model": model, "flops_hardware": hardware}


def store_layers(
    target: str, keys: Mapping[str, str], date: str, layers: Sequence[LayerLog], meters: Sequence[Meter]
) -> None:
    """Joules and FLOPs of every layer, a file a rank."""
    ranks: set[int] = set()
    for one in layers:
        rows = layer_rows(one, in_place(meters, one))
        if rows:
            # Of several processes of a rank the one with the most FLOPs is the rank's, and others have their own file.
            stem = f"{one.rank}.{one.stem}" if one.rank in ranks else str(one.rank)
            ranks.add(one.rank)
            path = store.file_path(target, "layers", date, f"{keys['run_id']}.{keys['node']}.{stem}")
            store.write(path, store.table_of("layers", [{**keys, **row} for row in rows]))
