"""Which channels are read where several sources offer some, and what is inside what."""

from __future__ import annotations

from energyprof.collectors.base import Channel, Group, Method, Unavailable
from energyprof.inclusion import in_totals, missed, settled
from energyprof.reasons import NOT_SUPPORTED


def one(name: str, method: Method = "counter", parent: str | None = None, covers: str = "") -> Group:
    channel = Channel(name, "energy", method, "", parent=parent, device={"covers": covers} if covers else {})
    return Group((channel,), lambda: (1,), 0.1)


def read(*offers: tuple[str, list[Group]]) -> dict[str, str | None]:
    """Channel -> parent."""
    return {c.name: c.parent for group in settled(offers)[0] for c in group.channels}


def totals(*offers: tuple[str, list[Group]]) -> set[str]:
    return in_totals([c for group in settled(offers)[0] for c in group.channels])


GRACE = [
    one("module:0", "integrated"),
    one("package:0", "integrated", parent="module:0", covers="package,dram"),
    one("core:0", "integrated", parent="package:0"),
]
MODELS = (
    "models",
    [one("machine/busy", "allocated"), one("package:0", "modelled"), one("dram:0", "modelled")],
)


def test_a_channel_is_read_once_by_the_source_that_offers_it_first() -> None:
    plug_in = [one("package:0"), one("package:1"), one("package:0/other")]
    groups, missing = settled([("rapl", [one("package:0")]), ("plug-in", plug_in)])
    assert [c.name for g in groups for c in g.channels] == ["package:0", "package:1"]
    assert [str(m) for m in missing] == ["plug-in: package:0 is read by rapl; left out"]


def test_dies_of_a_package_and_the_whole_package_are_not_both_read() -> None:
    dies = [one("package:0-die:0"), one("package:0-die:1")]
    assert list(read(("rapl", dies), ("other", [one("package:0")]))) == ["package:0-die:0", "package:0-die:1"]


def test_models_stand_in_where_nothing_measures_and_nowhere_else() -> None:
    use = "machine/busy"  # measures no energy: it stands beside all
    assert list(read(MODELS)) == [use, "package:0", "dram:0"]
    assert list(read(("rapl", [one("package:0")]), MODELS)) == ["package:0", use, "dram:0"]
    assert list(read(("rapl", [one("psys:0")]), MODELS)) == ["psys:0", use]
    assert list(read(("hwmon", [one("node:0", "integrated")]), MODELS)) == ["node:0", use]
    assert list(read(("hwmon", GRACE), MODELS)) == ["module:0", "package:0", "core:0", use]


def test_a_whole_node_is_read_only_where_no_part_of_it_is() -> None:
    node = ("hwmon", [one("node:0", "integrated")])
    assert list(read(node)) == ["node:0"]
    assert list(read(("nvml", [one("gpu:0")]), node, MODELS)) == ["gpu:0", *list(read(MODELS))]


def test_a_nodes_meter_that_cannot_be_read_is_missed_only_where_no_part_is_measured() -> None:
    node = Unavailable("hwmon", NOT_SUPPORTED, "node:0 gives no reading", channel="node:0")
    rail = Unavailable("hwmon", NOT_SUPPORTED, "core:0 gives no reading", channel="core:0")
    assert missed([node, rail], [one("package:0", "modelled")]) == [node, rail]
    assert missed([node, rail], [one("package:0")]) == [rail]


def test_a_grace_module_holds_its_processor_where_no_gpu_is_read() -> None:
    assert totals(("hwmon", GRACE)) == {"module:0"}


def test_on_grace_hopper_module_and_processor_are_inside_the_gpus_counter() -> None:
    gpu = ("nvml", [one("gpu:0", covers="gpu,package,dram")])
    assert read(gpu, ("hwmon", GRACE), MODELS) == {
        "gpu:0": None,
        "module:0": "gpu:0",
        "package:0": "gpu:0",
        "core:0": "package:0",
        "machine/busy": None,
    }
    assert totals(gpu, ("hwmon", GRACE), MODELS) == {"gpu:0", "machine/busy"}


def test_a_module_whose_gpu_the_program_does_not_see_counts_its_processor_alone() -> None:
    gpu = ("nvml", [one("gpu:1", covers="gpu,package,dram")])
    assert totals(gpu, ("hwmon", GRACE)) == {"gpu:1", "package:0"}


def test_gpus_that_are_counted_alone_add_up_with_processors_and_not_with_modules() -> None:
    gpus = ("nvml", [one("gpu:0", covers="gpu"), one("gpu:1", covers="gpu")])
    assert totals(gpus, ("hwmon", GRACE)) == {"gpu:0", "gpu:1", "package:0"}


def test_a_gpu_is_inside_the_boards_rail_that_feeds_it() -> None:
    board = ("hwmon", [one("module:0", "integrated", covers="gpu,package,dram")])
    assert read(("nvml", [one("gpu:0"), one("gpu:0/clock")]), board) == {
        "gpu:0": "module:0",
        "gpu:0/clock": None,
        "module:0": None,
    }


def test_sockets_that_are_read_together_are_each_in_their_own_module() -> None:
    apus = [one(f"gpu:{i}", covers="gpu,package,dram") for i in range(2)]
    sockets = Group(
        tuple(one(f"{kind}:{i}").channels[0] for i in range(2) for kind in ("package", "core")),
        lambda: (),
        0.1,
    )
    found = read(("amd", apus), ("rapl", [sockets]))
    assert (found["package:0"], found["package:1"]) == ("gpu:0", "gpu:1")
    # Of a socket whose module the program does not see, its own meter counts, and of the other it does not.
    assert totals(("amd", apus[:1]), ("rapl", [sockets])) >= {"gpu:0", "package:1"}
    assert "package:1" not in totals(("amd", apus[1:]), ("rapl", [sockets]))


def test_what_was_left_out_keeps_nobody_else_away() -> None:
    both = Group((one("package:0").channels[0], one("package:1").channels[0]), lambda: (1, 1), 0.1)
    found = read(("rapl", [one("package:0")]), ("plug-in", [both]), ("other", [one("package:1")]))
    assert list(found) == ["package:0", "package:1"]


def test_a_channel_inside_another_is_not_counted_twice() -> None:
    package = Channel("package:0", "energy", "counter", "", parent="psys:0")
    core = Channel("core:0", "energy", "counter", "", parent="package:0")
    psys = Channel("psys:0", "energy", "counter", "")
    assert in_totals([package, core, psys]) == {"psys:0"}
    assert in_totals([package, core]) == {"package:0"}
