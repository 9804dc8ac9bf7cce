"""Joules of layers by replay: what is captured and put back, what is repeated, and what the figures are worth."""

from __future__ import annotations

import gc
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import energyprof
from energyprof.flops.as_found import restored
from energyprof.flops.inputs import call
from energyprof.layers import cover
from energyprof.layers.capture import Captured, capture
from energyprof.layers.means import Mean, added, closure, combined, mean_of, steady
from energyprof.layers.player import player
from energyprof.layers.values import NotAlone, copied
from energyprof.reasons import NOT_ALONE
from energyprof.result import stored
from tests.conftest import ROOT
from tests.lab import VirtualHardware


class Attention(nn.Module):
    """Attention whose scores are computed by a function, in no module."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in self.qkv(x).chunk(3, dim=-1))
        return nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Block(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.attention = Attention(width, 2)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(x)
        return x + self.mlp(x)


class Fragile(nn.Module):
    """Works in its model alone: what it needs is put there for the time of a step."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale * self.lent  # type: ignore[operator]


class Lender(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Dropout())
        self.fragile = Fragile()
        self.after = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.before(x)
        self.fragile.lent = torch.ones(())
        x = self.fragile(x)
        del self.fragile.lent
        return self.after(x)


class Frees(torch.autograd.Function):
    """A backward pass that can be had once."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.kept = [x * 2]
        return x**2

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        if not ctx.kept:
            raise RuntimeError("gone")
        return gradients[0] * ctx.kept.pop()


class Once(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = Frees.apply(x)
        return out


def state(model: nn.Module) -> Any:
    """Everything of a model that a replay could leave changed, and the random states."""
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), m.training) for m in model.modules()]
    plain = [{k: v for k, v in vars(m).items() if isinstance(v, (int, str, float))} for m in model.modules()]
    values = [t.clone() for t in (*model.parameters(), *model.buffers())]
    gradients = [(id(p.grad), None if p.grad is None else p.grad.clone()) for p in model.parameters()]
    return hooks, plain, values, gradients, torch.get_rng_state(), random.getstate()


def tensors_alive() -> int:
    gc.collect()
    return sum(type(thing) is torch.Tensor for thing in gc.get_objects())


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other))
    return bool(one == other)


def captured(model: nn.Module, batch: Any, backward: bool = True) -> tuple[Captured, set[str]]:
    """A model's step with all that would be replayed, as `replay` asks for it."""
    workers = cover.own_work(cover.counted(model, batch, backward).values())
    wanted = cover.wanted(capture(model, batch, backward=backward).calls, workers)
    return capture(model, batch, wanted, backward), workers


def made_of(found: Captured, workers: set[str]) -> dict[str, cover.Sums]:
    """What each module adds up to, in the names of the modules whose calls were kept."""

    def parts(kind: Any) -> dict[str, dict[str, float]]:
        return {"forward": {f"{kind.name} f": 1.0}, "backward": {f"{kind.name} b": 1.0}}

    return cover.sums(found.calls, workers, parts)


def test_a_captured_step_leaves_the_model_as_it_was() -> None:
    model = Lender()
    call(model, torch.randn(4, 8)).sum().backward()
    parameter = next(model.parameters())
    parameter.register_post_accumulate_grad_hook(
        lambda p: p.data.add_(1.0)
    )  # an optimizer in the backward pass
    model.after.eval()
    batch = torch.randn(4, 8)
    before, alive = state(model), tensors_alive()
    found, _ = captured(model, batch)
    assert same(state(model), before)
    assert len(parameter._post_accumulate_grad_hooks) == 1
    assert all(not kind.gradients[0].requires_grad for kind in found.kinds)
    del found
    assert tensors_alive() == alive


@pytest.mark.parametrize("fails", ["forward", "backward"])
def test_a_step_that_fails_raises_its_own_error_and_leaves_nothing_behind(fails: str) -> None:
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            if fails == "forward":
                raise ArithmeticError("in the middle")
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
            raise ArithmeticError("in the middle")

    class Failing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = Fails.apply(x)
            return out

    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), Failing(), nn.Linear(4, 4))
    batch = torch.randn(3, 4)
    before = state(model)
    with pytest.raises(ArithmeticError, match="in the middle"):
        capture(model, batch, {"0", "1"})
    assert same(state(model), before)


def test_layers_that_cost_the_same_are_captured_once_and_others_apart() -> None:
    model = nn.Sequential(
        *(nn.Linear(8, 8) for _ in range(5)), nn.Linear(8, 4), nn.Dropout(0.1), nn.Dropout(0.2)
    )
    model[1].weight.requires_grad_(False)  # its backward pass is another
    model[2].eval()
    found, _ = captured(model, torch.randn(2, 8))
    # The first layer's input needs no gradient, and that of the others does.
    assert [kind.name for kind in found.kinds] == ["0", "1", "2", "3", "5", "6", "7"]
    assert [c.kind.name for c in found.calls if c.kind] == ["0", "1", "2", "3", "3", "5", "6", "7"]
    wide = capture(model, torch.randn(3, 8), {"3", "4"}).kinds
    assert [tuple(kind.positional[0].shape) for kind in wide] == [(3, 8)]


def test_real_inputs_and_gradients_are_kept_and_stand_alone() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    x = torch.randn(3, 4)
    found = capture(model, x, {"1"})
    (kind,) = found.kinds
    assert torch.equal(kind.positional[0], model[0](x))
    assert kind.positional[0].is_leaf
    assert kind.positional[0].requires_grad
    assert torch.allclose(kind.gradients[0], torch.full((3, 2), 1 / 6))


def test_attention_in_no_leaf_makes_its_module_a_unit_and_nothing_is_in_two_places() -> None:
    model = nn.Sequential(Block(), Block())
    found, workers = captured(model, torch.randn(2, 5, 16))
    assert workers == {"0.attention", "1.attention"}
    units = cover.units(found.calls, workers)
    assert units == ["0.attention", "0.mlp.0", "0.mlp.1", "1.attention", "1.mlp.0", "1.mlp.1"]
    sums = made_of(found, workers)
    # The first block's input needs no gradient: another kind than the second's.
    assert sums["0"].forward == {"0.attention f": 1, "0.mlp.0 f": 1, "0.mlp.1 f": 1}
    assert sums["1"].forward == {"1.attention f": 1, "0.mlp.0 f": 1, "0.mlp.1 f": 1}
    assert sums["1.attention.qkv"].forward == {"1.attention.qkv f": 1}
    assert sums[""].forward == added([(1, sums["0"].forward), (1, sums["1"].forward)])
    assert sums[""].backward == {"0.attention b": 1, "1.attention b": 1, "0.mlp.0 b": 2, "0.mlp.1 b": 2}


@pytest.mark.parametrize("reentrant", [False, True])
def test_what_is_recomputed_for_the_backward_pass_counts_there(reentrant: bool) -> None:
    class Saving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = checkpoint(self.inner, x, use_reentrant=reentrant)
            return out

    model = nn.Sequential(nn.Linear(8, 8), Saving())
    found, workers = captured(model, torch.randn(2, 8))
    sums = made_of(found, workers)
    assert sum(sums["1"].forward.values()) == 3
    again = sum(count for name, count in sums["1"].backward.items() if name.endswith(" f"))
    assert again == (3 if reentrant else 2)  # the other kind stops where it has all that it needs
    assert sum(sums["1"].backward.values()) == 3 + again
    assert sums[""].backward == added([(1, sums["0"].backward), (1, sums["1"].backward)])


def test_a_model_without_gradients_has_forward_passes_alone() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)).eval()
    found, workers = captured(model, torch.randn(2, 8), backward=False)
    assert not any(kind.trained or kind.mode.grad for kind in found.kinds)
    assert made_of(found, workers)[""].backward == {}
    assert set(player(found.kinds[0]).parts) == {"forward"}


def test_work_in_place_is_repeated_on_copies_which_are_taken_off() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True))
    (kind,) = capture(model, torch.randn(2, 8), {"1"}).kinds
    before = kind.positional[0].clone()
    found = player(kind)
    for action in found.actions.values():
        action()
        action()
    assert torch.equal(kind.positional[0], before)
    assert found.parts == {"forward": {"forward": 1, "copy": -1}, "backward": {"backward": 1}}


def test_a_graph_that_serves_once_is_made_anew_and_the_forward_pass_taken_off() -> None:
    model = nn.Sequential(nn.Linear(8, 8), Once(), nn.Linear(8, 8))
    (kind,) = capture(model, torch.randn(2, 8), {"1"}).kinds
    found = player(kind)
    found.actions["both"]()
    found.actions["both"]()
    assert found.parts["backward"] == {"both": 1, "forward": -1}


def test_an_input_that_comes_twice_stays_one_tensor() -> None:
    seen = []

    class Looks(nn.MultiheadAttention):
        def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> Any:  # type: ignore[override]
            seen.append(query is key is value)
            return super().forward(query, key, value)

    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.before, self.attention = nn.Linear(8, 8), Looks(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.before(x)
            out: torch.Tensor = self.attention(x, key=x, value=x)[0]
            return out

    (kind,) = capture(Attends(), torch.randn(3, 2, 8), {"attention"}).kinds
    player(kind).actions["forward"]()
    assert all(seen)
    assert len(seen) == 4  # in the step, on copies, for the graph, and repeated


def test_the_modules_of_a_kind_take_turns() -> None:
    called = []

    class Counts(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            called.append(self)
            return super().forward(x)

    model = nn.Sequential(nn.Linear(8, 8), *(Counts(8, 8) for _ in range(3)))
    (kind,) = capture(model, torch.randn(2, 8), {"1", "2", "3"}).kinds
    found = player(kind)
    called.clear()
    for _ in range(6):
        found.actions["forward"]()
    assert called == [*model[1:], *model[1:]]


def test_keys_and_values_are_not_gathered_and_the_setting_is_put_back() -> None:
    class Gathers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = SimpleNamespace(use_cache=True)
            self.inner = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(self.config.use_cache)
            out: torch.Tensor = self.inner(x)
            return out

    class Cache:
        def get_seq_length(self) -> int:
            return 3

    seen: list[bool] = []
    model = Gathers()
    capture(model, torch.randn(2, 4))
    assert seen == [False]
    assert model.config.use_cache is True
    with pytest.raises(NotAlone, match="a filled cache"):
        copied({"past": Cache()})


def test_autocast_holds_in_the_repeated_call() -> None:
    seen = []

    class Looks(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out = super().forward(x)
            seen.append(out.dtype)
            return out

    model = nn.Sequential(nn.Linear(8, 8), Looks(8, 8))
    with torch.autocast("cpu", torch.bfloat16):
        (kind,) = capture(model, torch.randn(2, 8), {"1"}).kinds
    with kind.mode.entered():
        player(kind).actions["forward"]()
    assert set(seen) == {torch.bfloat16}


@pytest.mark.parametrize(
    ("model", "batch", "options", "says"),
    [
        ("model.pt", torch.ones(1), {}, "model is a str; give a torch.nn.Module"),
        (
            nn.Linear(2, 2),
            torch.ones(1, 2, device="meta"),
            {},
            "the batch is on meta and the model on cpu: move",
        ),
        (nn.Linear(2, 2, device="meta"), torch.ones(1, 2), {}, "the model has shapes and no data"),
        (nn.Linear(2, 2), torch.ones(1, 2), {"trials": 1}, "give two at least"),
        (nn.Linear(2, 2), torch.ones(1, 2), {"seconds": 0.0}, "give a positive number"),
    ],
)
def test_what_cannot_be_replayed_is_said_in_one_line(
    model: Any, batch: Any, options: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=says) as raised:
        energyprof.replay_layers(model, batch, out=tmp_path / "runs", **options)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "runs").exists()


def block(energy: float | None, random: float = 0.0, gain: float = 0.0, reason: str | None = None) -> Any:
    return {"energy_j": energy, "u_random_j": random, "u_gain_j": gain, "method": "counter", "reason": reason}


def test_the_mean_of_blocks_has_the_wider_of_their_spread_and_what_the_meters_say() -> None:
    spread = mean_of([block(10.0, 0.01, 0.5), block(22.0, 0.01, 1.1)], [10, 20])
    assert spread.energy_j == pytest.approx(32 / 30)
    # Two blocks, 1.0 and 1.1 J a call: Student's t of one degree of freedom is 12.7.
    error = (2 * ((10 * (1 - 32 / 30)) ** 2 + (20 * (1.1 - 32 / 30)) ** 2)) ** 0.5 / 30
    assert spread.u_random_j == pytest.approx(12.706 * error, rel=1e-3)
    assert spread.u_gain_j == pytest.approx(1.6 / 30)
    alike = mean_of([block(10.0, 0.3), block(20.0, 0.4)], [10, 20])
    assert alike.u_random_j == pytest.approx(0.5 / 30)
    assert mean_of([block(10.0), block(None, reason="sensor_gap")], [1, 1]).reason == "sensor_gap"
    assert mean_of([block(10.0), None], [1, 1]).energy_j is None
    some = mean_of([block(10.0), block(None, reason="sensor_gap"), block(14.0)], [1, 1, 1])
    assert (some.energy_j, some.reason) == (12.0, "sensor_gap")


def test_cut_ticks_hide_nothing_of_a_counter_where_the_same_work_goes_on_around() -> None:
    channels = [
        {"channel": "gpu:0", "method": "counter", "tick_ms": 100.3, "in_total": True},
        {"channel": "gpu:1", "method": "integrated", "tick_ms": 100.0, "in_total": True},
    ]
    row = {"region": "a 1", "energy_j": 1.0, "u_sampling_j": 0.0}
    regions = [{**row, "channel": name, "u_random_j": 0.3} for name in ("gpu:0", "gpu:1", "total")]
    found = steady(regions, channels, 0.1)
    assert [found["a 1", name]["u_random_j"] for name in ("gpu:0", "gpu:1", "total")] == [0.0, 0.3, 0.3]
    assert steady(regions, channels, 0.05)["a 1", "gpu:0"]["u_random_j"] == 0.3


def test_sums_carry_intervals_and_reasons_and_the_gain_cancels_in_closure() -> None:
    means = {
        "a": Mean(2.0, 0.3, 0.1, "counter"),
        "b": Mean(1.0, 0.4, 0.05, "counter"),
        "c": Mean(None, reason="x"),
    }
    total = combined(means, {"a": 1.0, "b": -1.0})
    assert (total.energy_j, total.u_random_j, total.u_gain_j) == pytest.approx((1.0, 0.5, 0.05))
    assert combined(means, {"a": 1.0, "c": 1.0}).reason == "x"
    assert combined(means, {"a": 1.0, "c": 0.0}).energy_j == 2.0
    gap, half = closure(Mean(9.0, 0.3, 0.9), Mean(10.0, 0.4, 1.0))
    assert gap == pytest.approx(-0.1)
    assert half == pytest.approx((0.3**2 + (0.9 * 0.4) ** 2) ** 0.5 / 10)
    assert closure(Mean(None), Mean(1.0)) == (None, None)


@pytest.mark.alone
def test_inference_alone_is_replayed_in_its_own_mode(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=True)).eval()
    with torch.inference_mode():
        found = energyprof.replay_layers(
            model, torch.randn(2, 8), out=tmp_path, trials=2, seconds=0.04, quiet=True
        )
    assert {(row["name"], row["phase"]) for row in found.rows} == {
        (name, phase) for name in ("", "0", "1") for phase in ("forward", "step")
    }
    assert found.units == ("0", "1")
    assert "backward" not in {row["region"].split(" ")[-2] for row in found.result.rows()[2]}


@pytest.mark.alone
def test_a_run_replays_its_layers_after_its_end_and_a_layer_that_cannot_be_alone_has_a_reason(
    tmp_path: Path,
) -> None:
    model, batch = Lender(), torch.randn(4, 8)
    with energyprof.profile("training", out=tmp_path, quiet=True) as run:
        for _ in run.steps(range(2)):
            call(model, batch).mean().backward()
            time.sleep(0.3)  # long enough for the steps to have joules of their own
        with pytest.raises(RuntimeError, match="the run is still open"):
            run.replay_layers(model, batch)
    before = state(model)
    found = run.replay_layers(model, batch, trials=2, seconds=0.04, seed=1)
    assert same(state(model), before)
    rows = {(row["name"], row["phase"]): row for row in found.rows if row["channel"] == "total"}
    assert rows["fragile", "forward"]["energy_j"] is None
    assert rows["fragile", "forward"]["reason"] == NOT_ALONE
    assert any("lent" in note for note in found.notes)
    assert rows["", "forward"]["reason"] == NOT_ALONE  # a part is never passed off as the whole
    assert found.closure is None
    assert rows["before.0", "forward"]["flops_forward"] == 2 * 4 * 8 * 8
    assert rows["before.0", "step"]["calls"] == 1
    assert rows["after", "step"]["time_s"] > 0
    # With the run of its own, and with the run that it is about.
    own, mine = found.result.layers, run.result.layers
    assert len(own) == len(mine) == len(found.rows)
    assert set(own["source"]) == {"replayed"}
    step = mine[(mine["name"] == "") & (mine["phase"] == "step") & (mine["channel"] == "total")].iloc[0]
    assert step["steps"] == 2
    assert sorted(energyprof.load(tmp_path)["name"]) == ["layers of Lender", "training"]


@pytest.mark.alone
def test_layers_of_known_power_are_right_and_add_up_to_the_step(
    hardware: Callable[..., VirtualHardware], tmp_path: Path
) -> None:
    machine = hardware(gpus=0, rapl=("package-0",), idle_w=20.0, seed=3)
    layers = [["a", [500, 3], [300, 6]], ["b", [200, 8], [150, 4]], ["a", [500, 3], [300, 6]]]
    done = subprocess.run(
        [sys.executable, "-m", "tests.lab.layered", "package:0", "0.6", "3", "5", json.dumps(layers)],
        env={**os.environ, **machine.env, "PYTHONPATH": str(ROOT), "ENERGYPROF_OUT": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    rows = {(row["name"], row["phase"]): row for row in found["rows"] if row["channel"] == "package:0"}
    for name, phases in found["truth"].items():
        for phase, joules in phases.items():
            row = rows[name, phase]
            assert row["energy_j"] == pytest.approx(joules, rel=0.05)
            assert abs(row["energy_j"] - joules) <= row["u95_j"]
            assert row["u_random_j"] < 0.1 * joules
            assert row["method"] == "replayed"
    step = rows["", "step"]
    assert abs(step["closure"]) < 0.05
    assert abs(step["closure"]) <= step["u95_closure"] + 0.01
    assert "the layers add up to" in found["text"]
    table = stored(str(tmp_path), found["run_id"]).layers
    assert len(table) == len(found["rows"])
    assert table["closure"].notna().sum() == table["channel"].nunique()


def test_what_is_kept_is_put_back_whatever_happens() -> None:
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4))
    before = state(model)
    with pytest.raises(KeyboardInterrupt):
        _changes_all(model)
    assert same(state(model), before)


def _changes_all(model: nn.Module) -> None:
    with restored(model):
        call(model, torch.randn(8, 4)).sum().backward()
        torch.rand(3)
        random.random()
        model[0].eps = 1.0  # type: ignore[index]
        raise KeyboardInterrupt
