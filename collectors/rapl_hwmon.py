"""The third door to RAPL: the driver `amd_energy` (Linux 5.8 to 5.12), where neither of the others opens.

It shows AMD's counters of cores and sockets and adds up their wraps itself; root alone may read it since
CVE-2020-12912. Documentation/hwmon/amd_energy.rst. The sockets are enough: cores are inside them.
"""

from __future__ import annotations

import errno
import os

from energyprof.collectors.base import Context, Group, Opened, Unavailable
from energyprof.collectors.cpu_facts import first_processor, is_virtual
from energyprof.collectors.hwmon_files import Files, OpenFile, chips, maybe
from energyprof.collectors.rapl_channels import INTERVAL_S, Domain, channels_of

_SOCKET = "Esocket"


class HwmonDoor:
    """RAPL's packages through hwmon.

    Parameters
    ----------
    open_file
        Opens a counter for reading and returns its descriptor.
    """

    def __init__(self, open_file: OpenFile = os.open) -> None:
        self._files = Files(open_file)

    def open(self, context: Context) -> Opened | None:
        """The sockets' counters as one group; None where there are none; `Unavailable` where they are closed."""
        sockets = {}
        for chip in chips(context.sys_root):
            if chip.name == "amd_energy":
                for number, label in chip.labels("energy").items():
                    if label.startswith(_SOCKET) and label[len(_SOCKET) :].isdigit():
                        sockets[str(int(label[len(_SOCKET) :]))] = chip, f"energy{number}_input"
        if not sockets:
            return None
        try:
            reads = [self._files.open(*at) for at in sockets.values()]
        except Unavailable as closed:
            self.close()
            raise Unavailable("rapl", closed.reason, closed.detail, closed.remedy) from None
        processor = first_processor(context.proc_root)
        domains = [Domain("package", number, None) for number in sockets]
        channels = channels_of(domains, processor, is_virtual(processor, context.sys_root))

        def read() -> list[int | None]:
            values = [maybe(one) for one in reads]
            if all(value is None for value in values):
                raise OSError(errno.EIO, "no socket's energy could be read")
            return values

        return Opened([Group(channels, read, INTERVAL_S)])

    def close(self) -> None:
        """Close the files; safe to call twice."""
        self._files.close()
