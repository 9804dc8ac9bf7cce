"""What the kernel says about the processor: its model, whether this is a virtual machine, sockets, CPUs.

Only the first processor's lines of /proc/cpuinfo are read: the file grows with the number of CPUs, and the
kernel may take milliseconds to fill it. Roots come in as arguments, so that a container can be shown the
host's files.
"""

from __future__ import annotations

import os

# Implementer and part numbers of server cores without a model name in /proc/cpuinfo: the Arm
# Neoverse technical reference manuals (MIDR_EL1).
_ARM_CORES = {
    "0xd0c": "Neoverse-N1",
    "0xd40": "Neoverse-V1",
    "0xd49": "Neoverse-N2",
    "0xd4f": "Neoverse-V2",
}
# Strings that hypervisors put into the firmware tables, for machines without x86's CPUID flag.
_VIRTUAL_VENDORS = ("QEMU", "VMware", "Xen", "innotek", "Parallels", "Google", "Alibaba Cloud", "OpenStack")


def read_text(path: str, limit: int = 65536) -> str | None:
    """A small file's text, stripped; None where it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return None
    try:
        return os.read(descriptor, limit).decode(errors="replace").strip()
    except OSError:
        return None
    finally:
        os.close(descriptor)


def first_processor(proc_root: str) -> dict[str, str]:
    """The fields of the first processor in cpuinfo, by name; empty where there is none."""
    text = read_text(f"{proc_root}/cpuinfo", 8192) or ""
    fields: dict[str, str] = {}
    for line in text.split("\n\n")[0].splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    return fields


def model_name(fields: dict[str, str]) -> str:
    """The processor's name as its maker spells it; empty where unknown."""
    return fields.get("model name") or _ARM_CORES.get(fields.get("CPU part", ""), "")


def is_virtual(fields: dict[str, str], sys_root: str) -> bool:
    """True in a virtual machine: x86's CPUID bit, else what the firmware tables say (Arm has no such bit)."""
    flags = fields.get("flags")
    if flags is not None:
        return "hypervisor" in flags.split()
    vendor = read_text(f"{sys_root}/class/dmi/id/sys_vendor") or ""
    product = read_text(f"{sys_root}/class/dmi/id/product_name") or ""
    if vendor == "Amazon EC2":
        return ".metal" not in product
    if vendor == "Microsoft Corporation":
        return product == "Virtual Machine"
    return vendor.startswith(_VIRTUAL_VENDORS)


def sockets(sys_root: str) -> int:
    """Processor packages that hold an online CPU; 1 where the kernel does not say."""
    folder = f"{sys_root}/devices/system/cpu"
    try:
        names = [name for name in os.listdir(folder) if name[:3] == "cpu" and name[3:].isdigit()]
    except OSError:
        return 1
    ids = {read_text(f"{folder}/{name}/topology/physical_package_id") for name in names}
    # Some Arm kernels answer -1: not known.
    return max(1, len(ids - {None, "", "-1"}))
