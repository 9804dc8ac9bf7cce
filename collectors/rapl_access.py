"""Why RAPL cannot be read, in words, with the exact lines that change it."""

from __future__ import annotations

from collections.abc import Sequence

from energyprof.collectors.base import Unavailable
from energyprof.collectors.cpu_facts import first_processor, is_virtual
from energyprof.reasons import NO_PERMISSION, NOT_SUPPORTED

# Root only since Linux 5.10 and the stable kernels of November 2020 (CVE-2020-8694, PLATYPUS): a fine
# power meter leaks what other users compute.
_UDEV = (
    'udev (for good): the line `SUBSYSTEM=="powercap", ACTION=="add", RUN+="/bin/chmod a+r /sys%p/energy_uj"`'
    " in /etc/udev/rules.d/70-rapl.rules, then `sudo udevadm control --reload && sudo udevadm trigger"
    " --action=add --subsystem-match=powercap`, lets every local user read the meter."
)
_TMPFILES = (
    "systemd-tmpfiles (at each boot, where the module is built in): the line"
    " `z /sys/class/powercap/intel-rapl:*/energy_uj 0444 - - -` in /etc/tmpfiles.d/rapl.conf, then"
    " `sudo systemd-tmpfiles --create /etc/tmpfiles.d/rapl.conf`, does the same."
)
_CONTAINER = (
    "In a container: `-v /sys/class/powercap:/host/sys/class/powercap:ro -v"
    " /sys/devices/virtual/powercap:/host/sys/devices/virtual/powercap:ro -e ENERGYPROF_SYS_ROOT=/host/sys`"
    " shows it the host's meter, which the container's root may read."
)
PERMISSION_REMEDY = " ".join((_UDEV, _TMPFILES, _CONTAINER))

_VENDORS_WITH_RAPL = ("GenuineIntel", "AuthenticAMD", "HygonGenuine")


def no_permission(paths: list[str]) -> Unavailable:
    """The files are there but may not be read by this user."""
    others = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return Unavailable("rapl", NO_PERMISSION, f"{paths[0]}{others}: only root may read it", PERMISSION_REMEDY)


def hidden_by_container(folder: str) -> Unavailable:
    """The class folder lists zones whose folders are masked (Docker and Podman do so since 2023)."""
    detail = f"{folder} lists RAPL zones, but this container hides their folders"
    return Unavailable("rapl", NO_PERMISSION, detail, _CONTAINER)


def all_closed(doors: Sequence[Unavailable]) -> Unavailable:
    """No door opens: what each says, and what opens each. A refusal is worth more than an absence."""
    reason = next((door.reason for door in doors if door.reason == NO_PERMISSION), doors[0].reason)
    details = "; ".join(door.detail for door in doors)
    return Unavailable("rapl", reason, details, " ".join(door.remedy for door in doors if door.remedy))


def not_there(folder: str, proc_root: str, sys_root: str) -> Unavailable:
    """No zones at all: a virtual machine, another make of processor, or a missing kernel module."""
    fields = first_processor(proc_root)
    if is_virtual(fields, sys_root):
        detail = f"no RAPL zones in {folder}: this is a virtual machine, and its hypervisor passes on no RAPL"
        return Unavailable(
            "rapl", NOT_SUPPORTED, detail, "measure on bare metal; until then a model stands in"
        )
    vendor = fields.get("vendor_id", "")
    if vendor not in _VENDORS_WITH_RAPL:
        detail = f"no RAPL zones in {folder}: RAPL is a meter of Intel and AMD processors"
        return Unavailable("rapl", NOT_SUPPORTED, detail)
    detail = f"no RAPL zones in {folder}: the kernel module intel_rapl_common is not loaded"
    remedy = "`sudo modprobe intel_rapl_msr` (it serves AMD too); for good, name it in /etc/modules-load.d/"
    return Unavailable("rapl", NOT_SUPPORTED, detail, remedy)
