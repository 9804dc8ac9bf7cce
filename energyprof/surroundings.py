"""What to know of the machine before believing a joule: virtual machine, container, SGX, MIG, Grace-Hopper.

Facts for `energyprof doctor`; nothing here changes a figure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence

from energyprof.collectors.base import Channel
from energyprof.collectors.cpu_facts import first_processor, is_virtual, read_text

# Files that container engines leave: Docker, Podman.
_CONTAINER_FILES = ("/.dockerenv", "/run/.containerenv")
_CONTAINER_GROUPS = ("docker", "kubepods", "containerd", "lxc", "libpod")


def notes(
    environ: Mapping[str, str],
    channels: Sequence[Channel],
    proc_root: str = "/proc",
    sys_root: str = "/sys",
    root: str = "",
) -> Iterator[tuple[str, str]]:
    """Pairs of a topic and a sentence, for what holds here.

    Parameters
    ----------
    environ
        The environment in which programs will be measured.
    channels
        What the meters offer.
    proc_root, sys_root, root
        Where /proc, /sys and / are.
    """
    processor = first_processor(proc_root)
    measured = [c for c in channels if c.method in ("counter", "integrated")]
    if is_virtual(processor, sys_root):
        yield (
            "virtual",
            "a virtual machine: processor and memory are modelled unless its hypervisor passes a meter on",
        )
    engine = _container(environ, proc_root, root)
    if engine:
        yield (
            "container",
            f"a container ({engine}): meters are the whole machine's, whoever else uses it",
        )
    rapl = any(c.name.split(":")[0] in ("package", "core", "dram", "psys") for c in measured)
    if rapl and "sgx" in processor.get("flags", "").split():
        # Intel-SA-00389: with SGX enabled the processor adds noise to its energy counters.
        yield (
            "sgx",
            "SGX is enabled: the processor blurs its energy counters (INTEL-SA-00389), which shows in short intervals",
        )
    wish = environ.get("CUDA_VISIBLE_DEVICES", "")
    if "MIG-" in wish or any("mig_parent_power" in c.flags for c in channels):
        yield ("mig", "a MIG slice has no meter of its own: what is read is the whole GPU's")
    whole = [
        c.name for c in measured if "package" in str(c.device.get("covers", "")) and c.name.startswith("gpu")
    ]
    if whole:
        yield (
            "grace-hopper",
            f"{', '.join(whole)}: the counter is the whole module's, with processor and memory",
        )


def _container(environ: Mapping[str, str], proc_root: str, root: str) -> str:
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return "Kubernetes"
    if environ.get("container"):  # systemd's convention, which Podman and LXC follow
        return environ["container"]
    for path in _CONTAINER_FILES:
        if os.path.exists(root + path):
            return "Docker" if "docker" in path else "Podman"
    groups = read_text(f"{proc_root}/1/cgroup") or ""
    return next((name for name in _CONTAINER_GROUPS if name in groups), "")
