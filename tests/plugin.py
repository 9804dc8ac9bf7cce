"""Packages with a collector of their own, as somebody else's would be installed: a module and its metadata."""

from __future__ import annotations

from pathlib import Path

_METER = """
import os, time
from energyprof.collectors.base import Channel, Group, Opened, Unavailable

class Meter:
    source = "{name}"
    reads = 0

    def open(self, context):
        {open}
        channel = Channel("{name}:0", "power", "integrated", "the plug")
        return Opened([Group((channel,), self.read, 0.05)])

    def read(self):
        self.reads += 1
        {read}

    def close(self):
        {close}
"""


def install(
    folder: Path, name: str, open: str = "pass", read: str = "return [100_000]", close: str = "pass"
) -> None:
    """Write a package into a folder that will be on PYTHONPATH; the bodies are one line each."""
    metadata = folder / f"{name}_meter-1.0.dist-info"
    metadata.mkdir(parents=True)
    text = _METER.format(name=name, open=open, read=read, close=close)
    (folder / f"{name}_meter.py").write_text(text)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-meter\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[energyprof.collectors]\n{name} = {name}_meter:Meter\n")
