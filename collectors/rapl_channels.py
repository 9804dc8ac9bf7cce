"""What a RAPL domain is as a channel, by whichever door it is read: names, what includes what, how far to trust it.

In energy, core and uncore are parts of the package; dram, though its powercap folder is inside the
package's, is not; psys includes packages and memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from energyprof.collectors.base import Channel
from energyprof.collectors.cpu_facts import model_name
from energyprof.reasons import VIRTUALISED_COUNTER

INTERVAL_S = 0.05
AMD = ("AuthenticAMD", "HygonGenuine")

# "about 1 ms", jittered: Intel SDM vol. 3B, 15.10 ("updated approximately every 1 ms").
_REFRESH_NS = 1_000_000
# Nobody publishes a bound for RAPL's gain, so these say that they are assumed. What is known: highly
# correlated with plug power (Khan et al., TOMPECS 2018); dram off by a constant, least on servers
# (Desrochers et al., MEMSYS 2016); AMD's is modelled (Schöne et al., arXiv 2108.00808); a hypervisor's is
# a share of the host's by CPU time (QEMU, docs/specs/rapl-msr).
_GAIN_PACKAGE = (0.05, "assumed; no published bound (Khan et al. 2018: highly correlated with plug power)")
_GAIN_OTHER = (0.10, "assumed; no published bound (Desrochers et al. 2016: dram is off by a constant)")
_GAIN_AMD = (0.10, "assumed; modelled by the processor (Schöne et al., arXiv 2108.00808)")
_GAIN_VIRTUAL = (0.50, "assumed; the hypervisor estimates it")

_SCOPES = {
    "package": "CPU package {}",
    "core": "cores of CPU package {}",
    "uncore": "uncore (integrated GPU) of CPU package {}",
    "dram": "memory of CPU package {}",
    "psys": "platform {}: packages, memory and more, as the vendor wired it",
}


class Domain(NamedTuple):
    """One counter: its kind (package, core, uncore, dram, psys), its package's number, where it wraps (µJ)."""

    kind: str
    number: str
    wraps_at: int | None


def channels_of(domains: Sequence[Domain], processor: dict[str, str], virtual: bool) -> tuple[Channel, ...]:
    """The domains as channels, in their order.

    Parameters
    ----------
    processor
        The first processor's fields of /proc/cpuinfo.
    virtual
        Whether a hypervisor stands between the counters and us.
    """
    platform = next((f"psys:{domain.number}" for domain in domains if domain.kind == "psys"), None)
    model, vendor = model_name(processor), processor.get("vendor_id", "")
    channels = []
    for kind, number, wraps_at in domains:
        gain, source = _gain(kind, vendor, virtual)
        inside = f"package:{number}" if kind in ("core", "uncore") else platform
        channels.append(
            Channel(
                name=f"{kind}:{number}",
                quantity="energy",
                method="counter",
                scope=_SCOPES[kind].format(number.replace("-die:", " die ")),
                parent=None if kind == "psys" else inside,
                wraps_at=wraps_at,
                refresh_ns=_REFRESH_NS,
                gain_u95=gain,
                gain_source=source,
                device={"model": model} if model else {},
                flags=(VIRTUALISED_COUNTER,) if virtual else (),
            )
        )
    return tuple(channels)


def _gain(kind: str, vendor: str, virtual: bool) -> tuple[float, str]:
    if virtual:
        return _GAIN_VIRTUAL
    if vendor in AMD:
        return _GAIN_AMD
    return _GAIN_PACKAGE if kind == "package" else _GAIN_OTHER
