"""The columns of the dataset: names with units, types, and what each means.

Integers for what a meter counted, float64 for what was derived, null for unknown. Columns are only ever
added; a change of meaning raises `VERSION`, and files of a higher version are refused, not misread.
"""

from __future__ import annotations

from functools import lru_cache

import pyarrow as pa

VERSION = 1
VERSION_KEY = b"energyprof.schema_version"

_TEXT, _INT, _FLOAT, _TIME = pa.string(), pa.int64(), pa.float64(), pa.timestamp("us", tz="UTC")

_KEYS = [("run_id", _TEXT, "UUIDv7 of the run"), ("node", _TEXT, "host name")]

_FIGURE = [
    ("energy_j", _FLOAT, "joules; null where there is no figure"),
    ("u95_j", _FLOAT, "95 % half-width of energy_j: random and gain in quadrature"),
    ("u_random_j", _FLOAT, "part of u95_j without the gain: the next four in quadrature (but a model's)"),
    ("u_tick_j", _FLOAT, "when the meter ticked, and how power was distributed in the ticks at the ends"),
    ("u_sampling_j", _FLOAT, "what a gauge that sees a part of the time did not see"),
    ("u_regression_j", _FLOAT, "noise, tick times and lag in a region that was estimated from all ticks"),
    ("u_model_j", _FLOAT, "how far the model itself may be off; where a model replaces a meter, u_gain_j"),
    ("u_gain_j", _FLOAT, "part of u95_j from the sensors' gain; cancels on one board"),
    ("method", _TEXT, "counter, integrated, regressed, modelled, or several joined by +"),
    ("reason", _TEXT, "why there is no figure, or what limits it"),
]

RUNS = [
    *_KEYS,
    ("name", _TEXT, "name given by the user"),
    ("status", _TEXT, "finished, failed, killed, recovered"),
    ("started_utc", _TIME, "wall clock at the start"),
    ("duration_s", _FLOAT, "time inside the run"),
    *_FIGURE,
    ("measured_j", _FLOAT, "part of energy_j from meters"),
    ("modelled_j", _FLOAT, "part of energy_j from models"),
    ("power_w", _FLOAT, "energy_j / duration_s"),
    ("net_energy_j", _FLOAT, "energy_j - idle_w x duration_s; null where no baseline is known"),
    ("u95_net_j", _FLOAT, "95 % half-width of net_energy_j"),
    ("idle_w", _FLOAT, "power of the machine at rest, over the channels in the total"),
    ("idle_source", _TEXT, "measured before the run, or cached and the date (`doctor --calibrate`)"),
    ("allocated_j", _FLOAT, "the program's part of energy_j by use; null where a channel's use is not known"),
    ("co2e_g", _FLOAT, "operational emissions: energy_j / 3.6e6 x intensity x PUE; embodied_g is not in it"),
    ("co2e_lo_g", _FLOAT, "lower end of its 95 % interval: energy's, intensity's and PUE's in quadrature"),
    ("co2e_hi_g", _FLOAT, "upper end of it"),
    ("intensity_g_per_kwh", _FLOAT, "carbon intensity; mean over the energy where it changed with time"),
    ("intensity_lo_g_per_kwh", _FLOAT, "lower end of its 95 % interval; itself where it was given"),
    ("intensity_hi_g_per_kwh", _FLOAT, "upper end of it"),
    ("intensity_place", _TEXT, "FRA, US-CA, SE3, aws:eu-west-3 ..., WORLD, or empty where it was given"),
    ("intensity_place_name", _TEXT, "the place in words"),
    ("intensity_year", _INT, "year of the intensity"),
    ("intensity_source", _TEXT, "where the intensity is from"),
    ("intensity_scope", _TEXT, "which emissions it counts"),
    ("pue", _FLOAT, "power usage effectiveness; null where none was said: energy of the machine alone"),
    ("pue_lo", _FLOAT, "lower end of its interval; itself where it was given"),
    ("pue_hi", _FLOAT, "upper end of it"),
    ("pue_source", _TEXT, "where that is from, or why what was said is left out"),
    ("embodied_g", _FLOAT, "devices' making, shared over their life by duration; null where not published"),
    ("embodied_lo_g", _FLOAT, "lower end of its interval"),
    ("embodied_hi_g", _FLOAT, "upper end of it"),
    ("embodied_source", _TEXT, "which devices, and where their figures are from"),
    ("water_l", _FLOAT, "water on the site: energy_j / 3.6e6 x WUE"),
    ("water_lo_l", _FLOAT, "lower end of its interval"),
    ("water_hi_l", _FLOAT, "upper end of it"),
    ("wue_l_per_kwh", _FLOAT, "water usage effectiveness, litres a kWh of the machines"),
    ("wue_lo_l_per_kwh", _FLOAT, "lower end of its interval; itself where it was given"),
    ("wue_hi_l_per_kwh", _FLOAT, "upper end of it"),
    ("wue_source", _TEXT, "where that is from, or why what was said is left out"),
    ("cost", _FLOAT, "price x PUE x energy_j / 3.6e6, in cost_currency"),
    ("cost_lo", _FLOAT, "lower end of its interval"),
    ("cost_hi", _FLOAT, "upper end of it"),
    ("cost_currency", _TEXT, "ISO 4217 code; null where none was said"),
    ("price_source", _TEXT, "the price a kWh, or where it is from, or why there is none"),
    ("flags", _TEXT, "codes of energyprof.reasons, joined by commas"),
    ("calls", _INT, "times the run was entered (a decorated function is one run)"),
    ("steps", _INT, "steps counted by run.steps"),
    ("energy_per_step_j", _FLOAT, "mean joules a step (of each rank), over the time in which steps ran"),
    ("steps_total", _INT, "steps that the whole training has, as told by run.steps(total=) or --steps"),
    ("steps_done", _INT, "of them, those that ran (of one rank)"),
    ("forecast_energy_j", _FLOAT, "energy_j that the whole training will have had"),
    ("forecast_lo_j", _FLOAT, "lower end of its 90 % prediction interval, the meters' gain left out"),
    ("forecast_hi_j", _FLOAT, "upper end"),
    ("forecast_duration_s", _FLOAT, "duration_s that the whole training will have had"),
    ("forecast_duration_lo_s", _FLOAT, "lower end of its 90 % prediction interval"),
    ("forecast_duration_hi_s", _FLOAT, "upper end"),
    ("forecast_co2e_g", _FLOAT, "forecast_energy_j at the run's co2e_g a joule"),
    (
        "forecast_co2e_lo_g",
        _FLOAT,
        "lower end of its interval: the forecast's and that of co2e_g in quadrature",
    ),
    ("forecast_co2e_hi_g", _FLOAT, "upper end of it"),
    ("forecast_reason", _TEXT, "why there is no forecast, where a total was told"),
    ("samples", _FLOAT, "work done, as told by run.count"),
    ("tokens", _FLOAT, "work done, as told by run.count"),
    (
        "flops_model",
        _FLOAT,
        "FLOPs of all calls of the model, nothing twice; null where some were not counted",
    ),
    ("flops_hardware", _FLOAT, "the same with what was recomputed"),
    ("flops_dtype", _TEXT, "type in which most of them were computed; tf32 where float32 was let to be that"),
    ("flops_device", _TEXT, "the device as PyTorch names it"),
    ("flops_device_units", _INT, "its multiprocessors"),
    ("step_s", _FLOAT, "median duration of the model's steps that were neither timed by layer nor counted"),
    ("layer_notes", _TEXT, "what could not be known of the layers, and why"),
    ("ranks", _INT, "processes of the program that took part"),
    ("exit_code", _INT, "of the program under `energyprof run`; negative: the signal"),
    ("command", _TEXT, "JSON list of the program's arguments"),
    ("cwd", _TEXT, "working directory"),
    ("tags", _TEXT, "JSON object given by the user"),
    ("metrics", _TEXT, "JSON object of the last values of run.log"),
    ("missing", _TEXT, "JSON list of the meters that could not be read: source, reason, detail, remedy"),
    ("program_cpu_share", _FLOAT, "CPU time of the program's processes / busy time of the machine"),
    ("hardware", _TEXT, "devices that were metered"),
    ("os", _TEXT, "operating system and kernel"),
    ("python", _TEXT, "version"),
    ("torch", _TEXT, "version, where the program had imported it"),
    ("energyprof", _TEXT, "version"),
    ("git_commit", _TEXT, "of the working directory"),
    ("t0_ns", _INT, "monotonic time of the start; places samples and steps"),
    ("t1_ns", _INT, "monotonic time of the end"),
    ("boot_id", _TEXT, "monotonic times compare within one boot"),
]

CHANNELS = [
    *_KEYS,
    ("channel", _TEXT, "gpu:0, package:0, dram:0 ..."),
    *_FIGURE,
    ("in_total", pa.bool_(), "counted in the run's energy_j"),
    ("net_energy_j", _FLOAT, "energy_j - idle_w x duration of the run; null where no baseline is known"),
    ("u95_net_j", _FLOAT, "95 % half-width of net_energy_j"),
    ("idle_w", _FLOAT, "power at rest"),
    ("u95_idle_w", _FLOAT, "95 % half-width of idle_w, its random part alone"),
    ("idle_source", _TEXT, "measured before the run, or cached and the date (`doctor --calibrate`)"),
    (
        "allocated_j",
        _FLOAT,
        "the program's part of energy_j, by its part of CPU time or of the GPU's busy time",
    ),
    ("allocated_share", _FLOAT, "allocated_j / energy_j"),
    ("scope", _TEXT, "what the number covers"),
    ("parent", _TEXT, "channel that already includes this one"),
    ("gain_u95", _FLOAT, "relative gain uncertainty, 95 % half-width"),
    ("gain_source", _TEXT, "where that figure is from"),
    ("tick_ms", _FLOAT, "refresh period that was seen: what the meter resolves"),
    ("tick_jitter_ms", _FLOAT, "standard deviation of its ticks about a regular grid"),
    ("first_tick_ns", _INT, "monotonic time of the first tick that was seen: the phase"),
    ("window_ms", _FLOAT, "window of the gauge that looks into the ticks, where it was used"),
    ("lag_ms", _FLOAT, "first-order lag of the power behind the work, estimated from short regions"),
    ("u95_lag_ms", _FLOAT, "95 % half-width of lag_ms"),
    ("call_noise", _FLOAT, "relative standard deviation of a region's power from call to call"),
    (
        "closure",
        _FLOAT,
        "sum of all regions and the time outside them / energy_j, less 1, before any adjustment",
    ),
    ("readings", _INT, "readings used"),
    ("refresh_ms", _FLOAT, "refresh period as stated for the meter; null where it is learnt"),
    ("wraps_at", _INT, "the counter in `samples` is modulo this; null where it does not wrap"),
    ("device", _TEXT, "JSON facts: model, UUID, driver, TDP and its source"),
    ("flags", _TEXT, "codes, joined by commas"),
]

INTERVALS = [
    *_KEYS,
    ("rank", _INT, "rank of the process"),
    (
        "row_kind",
        _TEXT,
        "region: a kind, all calls; step: one step; call: when one call of a region was (few calls)",
    ),
    ("region", _TEXT, "call path, joined by /"),
    ("depth", _INT, "regions around it"),
    ("channel", _TEXT, "a meter, or 'total'"),
    ("step", _INT, "number of the step, from 0"),
    ("begin_ns", _INT, "monotonic time of the begin of a step or call; null for a kind"),
    ("calls", _INT, "times the region was entered"),
    ("duration_s", _FLOAT, "sum over calls"),
    *_FIGURE,
    ("self_j", _FLOAT, "energy_j less that of the regions inside"),
    ("flags", _TEXT, "codes, joined by commas"),
]

SAMPLES = [
    *_KEYS,
    ("t_ns", _INT, "monotonic time after the read"),
    ("took_ns", _INT, "duration of the read"),
    ("channel", _TEXT, "gpu:0, gpu:0/instant ..."),
    (
        "quantity",
        _TEXT,
        "energy (uJ), power (mW), utilisation (us), temperature (m°C), frequency (kHz), share (ppm)",
    ),
    ("value", _INT, "as the meter gave it"),
]

LAYERS = [
    *_KEYS,
    ("rank", _INT, "rank of the process"),
    ("model", _TEXT, "class of the outermost module"),
    ("name", _TEXT, "the layer's name in the model; empty: the model itself"),
    ("class", _TEXT, "class of the module"),
    ("depth", _INT, "modules around it"),
    ("leaf", pa.bool_(), "no module inside it was called"),
    ("source", _TEXT, "counted (FLOPs alone), in_place (timed while the program ran), replayed (alone)"),
    ("phase", _TEXT, "step (all of it), forward, or backward (with what is recomputed for it)"),
    ("channel", _TEXT, "a meter, or 'total'"),
    ("steps", _INT, "steps that time_s and energy_j are the mean of; every figure is of one step"),
    ("calls", _FLOAT, "calls in a step"),
    ("params", _INT, "parameters of it and the modules inside; what is shared counts once"),
    ("activations", _FLOAT, "elements of its outputs"),
    ("flops_forward", _FLOAT, "FLOPs of its forward pass, modules inside included; 2 a multiply-accumulate"),
    ("flops_backward", _FLOAT, "of its backward pass, without what is recomputed"),
    ("flops_recompute", _FLOAT, "of forward passes repeated in backward (activation checkpointing)"),
    ("bytes", _FLOAT, "read and written by its operators if none were fused"),
    ("time_s", _FLOAT, "on the GPU where events were recorded, else in the host"),
    ("energy_j", _FLOAT, "joules, modules inside included; null where there is no figure"),
    ("u95_j", _FLOAT, "95 % half-width of energy_j"),
    ("u_random_j", _FLOAT, "part of u95_j without the meters' gain, which cancels on one board"),
    ("method", _TEXT, "replayed, regressed, allocated (its share of the step's time), or modelled"),
    ("reason", _TEXT, "why there is no figure, or what limits it"),
    ("share", _FLOAT, "of the model's energy, else of its time, else of its FLOPs"),
    (
        "closure",
        _FLOAT,
        "sum over the replayed layers / the measured step - 1; on the row of the model's step",
    ),
    ("u95_closure", _FLOAT, "95 % half-width of closure; the meters' gain cancels in it"),
]

TABLES = {"runs": RUNS, "channels": CHANNELS, "intervals": INTERVALS, "samples": SAMPLES, "layers": LAYERS}


def kinds(table: str) -> dict[str, str]:
    """What each column of a table holds: "text", "number", "time" or "truth"."""
    words = {_TEXT: "text", _TIME: "time", _INT: "number", _FLOAT: "number"}
    return {name: words.get(kind, "truth") for name, kind, _ in TABLES[table]}


@lru_cache
def schema(table: str) -> pa.Schema:
    """The pyarrow schema of a table; the meaning of each column travels in its metadata."""
    fields = [pa.field(name, kind, metadata={"description": text}) for name, kind, text in TABLES[table]]
    return pa.schema(fields, metadata={VERSION_KEY: str(VERSION)})
