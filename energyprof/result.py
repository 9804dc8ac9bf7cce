"""Stored figures for the user's program: `run.result` and `energyprof.load`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from energyprof import runfolder, store
from energyprof.settings import out_folder

if TYPE_CHECKING:
    import pandas as pd

_SEAL_LIMIT_S = 600.0  # regressions of a day-long run on many meters take minutes
_POLL_S = 0.02
_FLUSH_S = 2.0  # the meter flushes once a second

_CHANNEL_COLUMNS = [
    "channel",
    "energy_j",
    "u95_j",
    "method",
    "scope",
    "in_total",
    "reason",
    "tick_ms",
    "device",
    "net_energy_j",
    "u95_net_j",
    "idle_w",
]
_REGION_COLUMNS = [
    "region", "channel", "rank", "calls", "duration_s", "energy_j", "u95_j", "method", "reason", "self_j", "flags",
]  # fmt: skip
_STEP_COLUMNS = ["step", "rank", "begin_ns", "duration_s", "energy_j", "u95_j", "method", "reason"]


class Result:
    """The figures of one run (or of one profile inside an outer run).

    Every row of the dataset's `runs` table is an attribute: energy_j, u95_j, measured_j, modelled_j,
    duration_s, co2e_g, power_w … (joules, seconds, grams, watts); None means that there is no figure,
    and `reason` says why.
    """

    def __init__(
        self,
        row: dict[str, Any],
        out: str,
        channels: list[dict[str, Any]],
        regions: list[dict[str, Any]],
        damaged: Sequence[tuple[str, str]] = (),
    ) -> None:
        self.row = row
        self.out = out
        self.damaged = damaged  # files of this run that cannot be read, and why
        self._channels = channels
        self._regions = regions

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["row"][name]
        except KeyError:
            raise AttributeError(f"a result has no {name!r}; see Result.row for its columns") from None

    @property
    def flags(self) -> list[str]:
        """Codes of `energyprof.reasons` that hold for the run."""
        return [flag for flag in (self.row["flags"] or "").split(",") if flag]

    def rows(self) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
        """The run's row, its channels' rows and its regions' rows, as the dataset has them."""
        return self.row, self._channels, self._regions

    @property
    def channels(self) -> pd.DataFrame:
        """A row a meter: channel, energy_j, u95_j, method, scope, in_total, reason …"""
        return _frame(self._channels, _CHANNEL_COLUMNS)

    @property
    def regions(self) -> pd.DataFrame:
        """A row a region kind and meter (and `total`): calls, duration_s, energy_j, u95_j, method, reason."""
        return _frame(self._regions, _REGION_COLUMNS)

    @property
    def steps(self) -> pd.DataFrame:
        """A row a step: its number, duration_s, energy_j, u95_j, method, reason."""
        found = store.of_run(self.out, "intervals", self.run_id, _of_kind("step"))
        if found.table is None:
            return _frame([], _STEP_COLUMNS)
        frame: pd.DataFrame = found.table.select(_STEP_COLUMNS).to_pandas()
        return frame

    @property
    def layers(self) -> pd.DataFrame:
        """A row a layer, phase and meter, of one step: FLOPs, time_s, energy_j, u95_j, method, share.

        Where layers were neither timed nor counted it has no rows; see `profile(layers=True)`.
        """
        import pandas as pd

        from energyprof.schema import LAYERS

        columns = [name for name, _, _ in LAYERS if name not in ("run_id", "node")]
        rows = [{name: row[name] for name in columns} for row in self.layer_rows()]
        frame: pd.DataFrame = pd.DataFrame(rows, columns=columns)
        return frame

    def layer_rows(self) -> list[dict[str, Any]]:
        """The rows of `layers` as the dataset has them."""
        return store.of_run(self.out, "layers", self.run_id).rows

    def __repr__(self) -> str:
        from energyprof.reports.numbers import energy

        return f"<Result {self.run_id} {energy(self.energy_j, self.u95_j, self.reason)} in {self.duration_s:.3g} s>"


def _frame(rows: list[dict[str, Any]], columns: list[str]) -> pd.DataFrame:
    import pandas as pd

    frame: pd.DataFrame = pd.DataFrame(
        [{name: row[name] for name in columns} for row in rows], columns=columns
    )
    return frame


def load(out: str | os.PathLike[str] | None = None) -> pd.DataFrame:
    """All runs of a dataset as a DataFrame, oldest first; damaged files are named on stderr and skipped.

    Raises
    ------
    energyprof.store.NewerSchema
        The dataset is from a newer release.
    """
    import pandas as pd

    from energyprof.schema import RUNS

    listing = store.runs(out_folder(out))
    for path, why in listing.damaged:
        print(f"energyprof: warning: skipped {path}: {why}", file=sys.stderr)
    frame: pd.DataFrame = pd.DataFrame(listing.rows, columns=[name for name, _, _ in RUNS])
    return frame


def stored(out: str, run_id: str) -> Result:
    """The result of a sealed run; LookupError where it is not in the dataset."""
    rows = store.of_run(out, "runs", run_id).rows
    if not rows:
        raise LookupError(f"run {run_id} is not in {out}")
    channels = store.of_run(out, "channels", run_id)
    regions = store.of_run(out, "intervals", run_id, _of_kind("region"))
    return Result(rows[0], out, channels.rows, regions.rows, [*channels.damaged, *regions.damaged])


def wait_for(folder: str, role: str, left_ns: int, region: tuple[str, ...] | None) -> Result:
    """The result of a run once it is sealed up to `left_ns`; of a region of it where `region` is given.

    Raises
    ------
    RuntimeError
        It could not be sealed; the journal stays for `energyprof recover`.
    """
    run_id = os.path.basename(folder).split(".")[0]
    out = os.path.dirname(os.path.dirname(folder))
    if region is not None and (role == "joined" or not _sealed(folder, left_ns)):
        return _look_inside(folder, run_id, left_ns, region)
    deadline = time.monotonic() + _SEAL_LIMIT_S
    while not _sealed(folder, left_ns):
        if time.monotonic() > deadline:
            raise RuntimeError(
                f"run {run_id} was not sealed in {_SEAL_LIMIT_S:.0f} s; try `energyprof recover`"
            )
        if _nobody_seals(folder):
            _seal_now(folder, run_id)
            break
        time.sleep(_POLL_S)
    return stored(out, run_id)


def _nobody_seals(folder: str) -> bool:
    """Whether there was a metering process, and it has died."""
    try:
        found = [re.fullmatch(r"meter\.(\d+)\.log", name) for name in os.listdir(folder)]
    except OSError:
        return False
    pids = [int(match[1]) for match in found if match]
    return bool(pids) and not any(runfolder.alive(pid) for pid in pids)


def _seal_now(folder: str, run_id: str) -> None:
    from energyprof.spawn import command, environment

    done = subprocess.run(
        command("energyprof.seal", folder), env=environment(), capture_output=True, text=True, check=False
    )
    if done.returncode != 0 and os.path.isdir(folder):
        raise RuntimeError(f"run {run_id} could not be sealed: {done.stderr.strip()[-200:]}")


def _sealed(folder: str, left_ns: int) -> bool:
    """Sealed after we left; a folder that is gone was sealed."""
    if not os.path.isdir(folder):
        return True
    try:
        with open(os.path.join(folder, "sealed.json"), encoding="utf-8") as file:
            return int(json.load(file)["through_ns"]) >= left_ns
    except (OSError, ValueError, KeyError):
        return False


def _look_inside(folder: str, run_id: str, left_ns: int, region: tuple[str, ...]) -> Result:
    """A profile inside a run that goes on: seal what is there to a scrap dataset and take its region."""
    from energyprof.spawn import command, environment

    time.sleep(max(0.0, _FLUSH_S - (time.monotonic_ns() - left_ns) / 1e9))
    with tempfile.TemporaryDirectory(prefix="energyprof-") as scrap:
        done = subprocess.run(
            command("energyprof.seal", folder, scrap),
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0 and not os.path.isdir(folder):  # the run ended and was sealed meanwhile
            return as_result(stored(os.path.dirname(os.path.dirname(folder)), run_id), region)
        if done.returncode != 0:
            raise RuntimeError(f"the open run {run_id} could not be read: {done.stderr.strip()[-200:]}")
        whole = stored(scrap, run_id)
    found = as_result(whole, region)
    found.out = os.path.dirname(os.path.dirname(folder))  # where the run will be
    return found


# What a region has no figure of its own for.
_WHOLE_RUN = (
    *("steps", "energy_per_step_j", "samples", "tokens"),
    *("net_energy_j", "u95_net_j", "idle_w", "idle_source"),
    *("embodied_g", "embodied_lo_g", "embodied_hi_g"),
    *("water_l", "water_lo_l", "water_hi_l", "cost", "cost_lo", "cost_hi"),
)


def _emissions(row: dict[str, Any]) -> dict[str, float | None]:
    """The grams of a region's energy, at the mean intensity of its run."""
    from energyprof.carbon.intensity import JOULES_PER_KWH
    from energyprof.carbon.ranges import Range, around, exact

    names = ("intensity_g_per_kwh", "intensity_lo_g_per_kwh", "intensity_hi_g_per_kwh")
    if row["energy_j"] is None or any(row[name] is None for name in names):
        return dict.fromkeys(("co2e_g", "co2e_lo_g", "co2e_hi_g"))
    kwh = around(row["energy_j"], row["u95_j"]) / JOULES_PER_KWH
    pue = Range(row["pue"], row["pue_lo"], row["pue_hi"]) if row["pue"] else exact(1.0)
    grams = kwh * Range(*(row[name] for name in names)) * pue
    return {"co2e_g": grams.value, "co2e_lo_g": grams.lo, "co2e_hi_g": grams.hi}


def as_result(whole: Result, region: tuple[str, ...]) -> Result:
    """One region of a run in the form of a run: its joules, its channels and the regions inside it."""
    path = "/".join(region)
    row, meters, regions = whole.rows()
    mine = {r["channel"]: r for r in regions if r["region"] == path}
    if "total" not in mine:
        raise RuntimeError(f"region {path!r} has no marks in run {whole.run_id}")
    total = mine["total"]
    figures = ("energy_j", "u95_j", "u_random_j", "u_gain_j", "method", "reason", "duration_s", "calls")
    row = {**row, **{name: total[name] for name in figures}, "name": region[-1], "status": "finished"}
    parts = [(c, mine[c["channel"]]) for c in meters if c["channel"] in mine]
    whole_run = dict.fromkeys(("net_energy_j", "u95_net_j", "idle_source"))  # not of this region
    channels = [{**c, **whole_run, **{name: r[name] for name in figures if name in c}} for c, r in parts]

    def summed(modelled: bool) -> float | None:
        counted = [
            c["energy_j"] for c in channels if c["in_total"] and (c["method"] == "modelled") == modelled
        ]
        return None if None in counted else float(sum(counted))

    energy, seconds = row["energy_j"], row["duration_s"]
    row.update(
        measured_j=summed(False),
        modelled_j=summed(True),
        power_w=energy / seconds if energy is not None and seconds else None,
        **_emissions(row),
        **dict.fromkeys(_WHOLE_RUN),
    )
    below = [
        {**r, "region": r["region"][len(path) + 1 :]} for r in regions if r["region"].startswith(path + "/")
    ]
    return Result(row, whole.out, channels, below)


def _of_kind(kind: str) -> partial[Any]:
    """Of the table of intervals the rows of one kind."""
    from energyprof.arrow_values import having

    return partial(having, column="row_kind", value=kind)
