"""Virtual meters with a known truth; see `hardware` and `truth`."""

from tests.lab.hardware import VirtualHardware, build, compiler
from tests.lab.truth import Truth

__all__ = ["Truth", "VirtualHardware", "build", "compiler"]
