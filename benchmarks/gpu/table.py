"""The findings as a page of text."""

from __future__ import annotations

from typing import Any


def readable(summary: dict[str, Any]) -> str:
    """One line a finding that somebody would ask for; the rest is in summary.json."""
    lines: list[str] = []

    def say(label: str, *parts: object) -> None:
        lines.append(f"{label:<34}" + "  ".join(str(part) for part in parts))

    for name, part in summary.items():
        if "error" in part:
            say(name, "FAILED:", part["error"])
    facts = summary.get("machine", {})
    say(
        "GPU",
        facts.get("gpu"),
        f"driver {facts.get('driver')}",
        f"torch {facts.get('torch')}",
        facts.get("cpu"),
    )
    for call, cost in summary.get("reading cost", {}).items():
        if isinstance(cost, dict) and "median_us" in cost:
            say(f"cost: {call}", f"median {cost['median_us']} µs", f"p99 {cost['p99_us']} µs")
    wave = summary.get("refresh and phase", {})
    for meter in ("counter", "instant", "average"):
        ticks = wave.get(meter, {})
        if "period_ms" in ticks:
            say(
                f"refresh: {meter}",
                f"every {ticks['period_ms']} ms (sd {ticks['gap_sd_ms']}, p01 to p99",
                f"{ticks['gap_p01_ms']} to {ticks['gap_p99_ms']})",
                f"seen within {ticks['bracket_median_ms']} ms",
            )
    if spacing := wave.get("samples", {}).get("spacing_ms"):
        say("refresh: driver's samples", f"p01, median, p99 {spacing} ms")
    for over, fits in wave.items():
        for meter, fit in fits.items() if over.startswith("fit over ") else ():
            if "lag_ms" in fit:
                window = f"window {fit['window_ms']} ms {fit['window_range_ms'] or ''}"
                lag = f"lag {fit['lag_ms']} ms, first order {fit['tau_ms']} ms"
                say(
                    f"{over}: {meter}",
                    window,
                    lag,
                    f"rms {fit['rms_w']} W",
                    f"{fit['off_w']} to {fit['on_w']} W",
                )
    power = summary.get("counter against power", {})
    for row in power.get("stretches", []):
        ratios = [f"{key} {row[key]}" for key in row if key.startswith("counter_over_")]
        say(
            f"{row['span_s']} s, read every {row['read_every_ms']} ms",
            f"counter {row['counter_w']} W",
            *ratios,
        )
    if "fast_over_slow" in power:
        say("counter read fast / at 1 Hz", power["fast_over_slow"], f"(spread {power['spread']})")
    train = summary.get("training", {})
    if "step_ms_plain" in train:
        say("training, plain", f"{train['step_ms_plain']} ms a step", f"{train['watts_plain']} W")
    if "step_time_ratio_median" in train:
        say("step time, with / without", train["step_time_ratio_median"], train["step_time_ratio_range"])
    for row in train.get("profiled", []):
        both = f"two-point {row['two_point_j']} J", f"region {row['region_j']} ± {row['region_u95_j']} J"
        say("energyprof", *both, f"run {row['energy_j']} ± {row['u95_j']} J")
    for problem in train.get("errors", []):
        say("energyprof", "FAILED:", problem)
    return "\n".join(lines)
