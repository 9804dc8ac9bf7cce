"""Virtual hardware for tests and benchmarks: GPUs behind the real pynvml, RAPL behind a powercap tree.

    with VirtualHardware(tmp_path, gpus=1, rapl=("package-0", "dram", "psys", "mmio")) as lab:
        subprocess.run([sys.executable, "workload.py"], env={**os.environ, **lab.env})
        lab.truth.energy_j("gpu:0", begin_ns, end_ns)

What is read answers from `truth`, which the workload sets (see `Truth`). Needs a C compiler.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.lab.truth import ENVIRONMENT, Truth, index_of

HERE = Path(__file__).parent
# Intel's usual energy unit and 32-bit range (Intel SDM vol. 3B, 15.10.1): 61.04 uJ, 262 143 328 850 uJ.
UNIT_UJ, RANGE_UJ = 61.03515625, 262_143_328_850

_BARE_METAL = (
    "processor\t: 0\nvendor_id\t: GenuineIntel\n"
    "model name\t: Intel(R) Xeon(R) Gold 6248 CPU @ 2.50GHz\nflags\t: fpu\n"
)


def compiler() -> str | None:
    """The C compiler that tests use, or None where there is none."""
    return next(
        (
            path
            for name in (os.environ.get("CC"), "cc", "gcc", "clang")
            if name and (path := shutil.which(name))
        ),
        None,
    )


def build() -> Path:
    """Compile the stub and the feeder once for each state of their sources; returns their folder."""
    digest = hashlib.sha256()
    for name in ("truth.h", "nvml_stub.c", "feeder.c"):
        digest.update((HERE / name).read_bytes())
    folder = Path(tempfile.gettempdir()) / f"energyprof-lab-{os.getuid()}-{digest.hexdigest()[:16]}"
    if not (folder / "done").exists():
        cc = compiler()
        assert cc is not None, "the virtual hardware needs a C compiler"
        folder.mkdir(mode=0o700, exist_ok=True)
        stub = [cc, "-O2", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1", str(HERE / "nvml_stub.c")]
        subprocess.run([*stub, "-o", str(folder / "libnvidia-ml.so.1"), "-lm"], check=True)
        subprocess.run([cc, "-O2", str(HERE / "feeder.c"), "-o", str(folder / "feeder"), "-lm"], check=True)
        (folder / "done").touch()
    return folder


def _never_wait(pid: int) -> None:
    """Hardware does not stand in line for a processor: give the feeder real-time priority where we may."""
    try:
        os.sched_setscheduler(pid, os.SCHED_FIFO, os.sched_param(1))
    except (OSError, AttributeError):
        pass


class VirtualHardware:
    """A machine with virtual meters.

    Parameters
    ----------
    folder
        Where truth and trees are written.
    gpus
        Number of boards; 0 leaves NVML out.
    rapl
        Zones: package-0, package-1, dram (in each package), psys, mmio (a second door to package-0).
    idle_w
        Power of every device until the workload says otherwise.
    range_uj
        Where the RAPL counters wrap.
    """

    def __init__(
        self,
        folder: Path,
        *,
        gpus: int = 1,
        rapl: Sequence[str] = (),
        idle_w: float = 70.0,
        seed: int | None = None,
        range_uj: int = RANGE_UJ,
        fault: int = 0,
    ) -> None:
        seed = random.randrange(1 << 30) if seed is None else seed
        self.seed = seed
        self.sys_root = folder / "sys"
        self.proc_root = folder / "proc"
        self.proc_root.mkdir()
        (self.proc_root / "cpuinfo").write_text(_BARE_METAL)  # whatever the machine under the test is
        for name in ("stat", "meminfo"):
            (self.proc_root / name).symlink_to(f"/proc/{name}")
        self.truth = Truth.create(str(folder / "truth"), gpus, seed, idle_w)
        self._built = build()
        self._gpus = gpus
        self._range, self._fault = range_uj, fault
        self._feeder: subprocess.Popen[bytes] | None = None
        self._zones: list[tuple[Path, str]] = []
        if rapl:
            self._grow(rapl)

    @property
    def env(self) -> dict[str, str]:
        """What a program needs to find this hardware."""
        libraries = {"LD_LIBRARY_PATH": str(self._built)} if self._gpus else {}
        roots = {"ENERGYPROF_SYS_ROOT": str(self.sys_root), "ENERGYPROF_PROC_ROOT": str(self.proc_root)}
        return {**libraries, ENVIRONMENT: self.truth.path, **roots}

    def __enter__(self) -> VirtualHardware:
        if self._zones:
            arguments = [self.truth.path]
            for path, sources in self._zones:
                arguments += [
                    str(path / "energy_uj"),
                    str(self._range),
                    str(UNIT_UJ),
                    str(self._fault),
                    sources,
                ]
            self._feeder = subprocess.Popen([str(self._built / "feeder"), *arguments])
            _never_wait(self._feeder.pid)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._feeder is not None:
            self._feeder.kill()
            self._feeder.wait()
        self.truth.close()

    def forbid(self) -> None:
        """No zone may be read but by its owner (for tests that run as another user)."""
        for path, _ in self._zones:
            (path / "energy_uj").chmod(0)

    def _grow(self, rapl: Sequence[str]) -> None:
        """The tree as the kernel lays it out: zones inside zones, and a flat folder of links."""
        virtual = self.sys_root / "devices/virtual/powercap"
        number = 0
        packages = [name for name in rapl if name.startswith("package")]
        if "psys" in rapl:  # on purpose before the packages: a zone's number says nothing
            parts = [f"package:{p[8:]}" for p in packages] + [
                f"dram:{p[8:]}" for p in packages if "dram" in rapl
            ]
            sources = "+".join(str(index_of(name)) for name in (*parts, "platform:0"))
            self._zone(virtual / "intel-rapl/intel-rapl:0", "psys", sources)
            number = 1
        for package in packages:
            index = package[8:]
            base = virtual / f"intel-rapl/intel-rapl:{number}"
            self._zone(base, package, str(index_of(f"package:{index}")))
            if "dram" in rapl:
                self._zone(base / f"intel-rapl:{number}:0", "dram", str(index_of(f"dram:{index}")))
            number += 1
        if "mmio" in rapl:
            base = virtual / "intel-rapl-mmio/intel-rapl-mmio:0"
            self._zone(base, "package-0", str(index_of("package:0")))
        flat = self.sys_root / "class/powercap"
        flat.mkdir(parents=True)
        for control in virtual.iterdir():
            (flat / control.name).symlink_to(os.path.relpath(control, flat))
        for path, _ in self._zones:
            (flat / path.name).symlink_to(os.path.relpath(path, flat))

    def _zone(self, path: Path, name: str, sources: str) -> None:
        path.mkdir(parents=True)
        (path / "name").write_text(f"{name}\n")
        (path / "enabled").write_text("1\n")
        (path / "max_energy_range_uj").write_text(f"{self._range}\n")
        (path / "energy_uj").write_text(f"{0:018d}\n")
        self._zones.append((path, sources))
