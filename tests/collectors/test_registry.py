"""Discovery of built-in and third-party collectors."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from energyprof.collectors.base import Collector, Context, Opened, Unavailable
from energyprof.collectors.registry import BUILT_IN, GROUP, discover

CONTEXT = Context(environ={})


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Installs a distribution, as metadata on the path, with the entry points that are given."""

    def install(module: str, *entry_points: str) -> None:
        info = tmp_path / "some_plug_in-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-plug-in\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *entry_points, ""]))
        (tmp_path / "some_plug_in.py").write_text(module)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "some_plug_in", raising=False)

    return install


GOOD = """
from energyprof.collectors.base import Opened

class Meter:
    source = "wall"
    def open(self, context):
        return Opened()
    def close(self):
        pass
"""


def opened_or_absent(collector: Collector) -> Opened | Unavailable:
    try:
        return collector.open(CONTEXT)
    except Unavailable as absence:
        return absence


def test_the_built_in_collectors_come_first_and_once() -> None:
    sources = [collector.source for collector in discover()]
    assert sources[: len(BUILT_IN)] == list(BUILT_IN)
    assert len(sources) == len(set(sources))


def test_every_built_in_collector_opens_or_says_why_not() -> None:
    for collector in discover():
        outcome = opened_or_absent(collector)
        collector.close()
        if isinstance(outcome, Unavailable):
            assert outcome.source == collector.source
            assert outcome.detail
            assert "could not be loaded" not in outcome.detail
        else:
            assert outcome.groups or collector.source in ("amd", "hwmon", "cpu_time")


def test_a_collector_of_another_package_is_found(plug_in) -> None:
    plug_in(GOOD, "wall = some_plug_in:Meter")
    assert [c.source for c in discover()][-1] == "wall"


@pytest.mark.parametrize(
    ("module", "point"),
    [
        ("raise RuntimeError('boom')", "wall = some_plug_in:Meter"),
        ("", "wall = some_plug_in:Meter"),
        ("import no_such_module_at_all", "wall = some_plug_in:Meter"),
        ("def Meter(): raise OSError('no')", "wall = some_plug_in:Meter"),
    ],
)
def test_one_that_cannot_be_loaded_becomes_a_record_and_not_an_exception(
    plug_in, module: str, point: str
) -> None:
    plug_in(module, point)
    broken = list(discover())[-1]
    assert broken.source == "wall"
    with pytest.raises(Unavailable, match=r"some_plug_in:Meter could not be loaded"):
        broken.open(CONTEXT)
    broken.close()


def test_our_own_entry_points_do_not_make_a_collector_twice(plug_in) -> None:
    plug_in(GOOD, *[f"{name} = {target}" for name, target in BUILT_IN.items()])
    assert [c.source for c in discover()].count("rapl") == 1


def test_a_name_that_is_taken_is_said_to_be(plug_in) -> None:
    plug_in(GOOD, "rapl = some_plug_in:Meter")
    with pytest.raises(Unavailable, match="name 'rapl', which is taken"):
        list(discover())[-1].open(CONTEXT)
