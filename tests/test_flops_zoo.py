"""What is counted of the benchmark's models equals their closed forms: in total, and in each layer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.flops_table import BEGIN, END, against, markdown, put_into
from benchmarks.zoo import ENTRIES, NINE, RESNET_HF
from benchmarks.zoo.closed import Closed, Own, attention, convolution, inclusive, linear
from energyprof.flops.counting import count
from energyprof.flops.static import forward_report

OF_TRANSFORMERS = [entry.name for entry in (*NINE, RESNET_HF) if entry.library == "transformers"]
OF_TIMM = [entry.name for entry in NINE if entry.library == "timm"]

pytest.importorskip("transformers")


def disagreeing(closed: Closed, rows: dict[str, tuple[int, int]]) -> dict[str, object]:
    """Modules whose row is not what the closed form says of them and all inside them."""
    expected = {name: inclusive(closed, name) for name in {*rows, *closed}}
    return {name: (rows.get(name), flops) for name, flops in expected.items() if rows.get(name) != flops}


@pytest.mark.parametrize("name", OF_TRANSFORMERS + OF_TIMM)
@pytest.mark.parametrize("fake", [False, True], ids=["executed", "fake tensors"])
def test_every_module_costs_what_the_closed_form_says_forward_and_backward(name: str, fake: bool) -> None:
    entry = ENTRIES[name]
    if not entry.available():
        pytest.skip(f"{entry.library} is not installed")
    model, batch = entry.build("small")
    counted = count(model, batch, backward=True, fake=fake)
    assert not counted.uncounted
    rows = {layer.name: (layer.flops_forward, layer.flops_backward) for layer in counted.layers}
    assert not disagreeing(entry.closed("small"), rows)
    assert model.training


@pytest.mark.parametrize("name", OF_TRANSFORMERS + OF_TIMM)
def test_the_trace_says_the_same_of_the_forward_pass(name: str) -> None:
    entry = ENTRIES[name]
    if not entry.available():
        pytest.skip(f"{entry.library} is not installed")
    report = forward_report(*entry.build("small"))
    closed = entry.closed("small")
    assert report.total == inclusive(closed, "")[0]
    found = {name: (int(flops), 0) for name, flops in report.by_module.items()}
    assert not disagreeing({name: Own(own.flops_forward, 0) for name, own in closed.items()}, found)


@pytest.mark.parametrize("name", OF_TRANSFORMERS)
def test_a_full_model_is_of_the_size_that_its_paper_names(name: str) -> None:
    """Millions of parameters; without weights, so that nothing is computed."""
    entry = ENTRIES[name]
    with torch.device("meta"):
        model = entry.make(entry.config(False))
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    published = {"bert": 109.5, "gpt2": 124.4, "vit": 86.6, "t5": 60.5, "whisper": 37.8, "resnet50_hf": 25.6}
    if name in published:
        assert millions == pytest.approx(published[name], abs=0.06)
    names = {name for name, _ in model.named_modules()}
    assert set(entry.closed("full")) <= names


def test_the_full_closed_forms_are_near_the_figures_in_the_papers() -> None:
    """He et al. 2015 count multiply-accumulates: 3.8 G for ResNet-50, 4.1 with the stride in the 3x3, as here."""
    assert inclusive(RESNET_HF.closed(), "")[0] / 2 == pytest.approx(4.1e9, rel=0.01)
    # Kaplan et al. 2020, section 2.1: 2 N a token, N without embeddings, and 2 layers x context x width for attention.
    gpt2 = inclusive(ENTRIES["gpt2"].closed(), "")[0]
    without_head = gpt2 - ENTRIES["gpt2"].closed()["lm_head"].flops_forward
    assert without_head / 256 == pytest.approx(2 * 12 * 12 * 768**2 + 2 * 2 * 12 * 256 * 768)


def test_both_resnets_cost_the_same() -> None:
    ours, theirs = ENTRIES["resnet50"].closed(), RESNET_HF.closed()
    assert sorted(own.flops_backward for own in ours.values()) == sorted(
        own.flops_backward for own in theirs.values()
    )


def test_terms_are_two_flops_a_multiply_accumulate() -> None:
    assert linear(3, 5, 7) == Own(210, 420)
    assert convolution(4, 9, 3, 8, of_data=True) == Own(1728, 1728)
    assert convolution(4, 9, 3, 8) == Own(1728, 3456)
    assert attention(2, 3, 5, 8) == Own(960, 1920, attention=True)
    closed = {"a": linear(1, 1, 1), "a.b": linear(1, 1, 2), "ab": linear(1, 1, 4)}
    assert inclusive(closed, "a") == (6, 12)
    assert inclusive(closed, "") == (14, 28)


def test_a_row_is_right_if_it_is_exact_and_strange_if_it_should_be_nothing() -> None:
    closed = {"attn": attention(1, 2, 2, 4), "attn.q": linear(2, 4, 4), "mlp": linear(2, 4, 8)}
    rows = {"": 1.0, "attn": 5.0, "attn.q": 64.0, "mlp": 127.0, "dropout": 9.0, "norm": 0.0}
    found = against(closed, {"flops_forward": 128.0, "rows_forward": rows})
    assert (found["layers"], found["right_forward"], found["strange_forward"]) == (2, 1, 1)
    assert found["ratio_forward"] == 128 / inclusive(closed, "")[0]
    assert "ratio_backward" not in found


RESULT = {
    "models": {
        "bert": {
            "title": "BERT",
            "flops_forward": 22_348_000_000,
            "flops_backward": 44_696_000_000,
            "tools": {
                "energyprof": {"ratio_forward": 1.0, "ratio_backward": 1.0, "right_backward": 73, "layers": 73,
                               "strange_backward": 0},
                "fvcore": {"ratio_forward": 0.974},
                "thop": {"failed": "ValueError: no"},
            },
        }
    },
    "failed": {"deepspeed": "pip failed"},
    "steps": {
        "short": {
            "energyprof": {"ratio": {"median": 2.5, "low": 2.4, "high": 2.6}, "plain_ms": {"median": 13.1}}
        }
    },
}  # fmt: skip


def test_the_tables_name_what_failed_and_mark_what_is_off(tmp_path: Path) -> None:
    text = markdown(RESULT)
    assert "| BERT | 22.348 | 1.000 | **0.974** | fails |" in text
    assert "Not there: DeepSpeed: pip failed" in text
    assert "| BERT | 44.696 | 1.000 | 73 of 73 | 0 |" in text
    assert "| 13 ms | 2.50 (2.40 to 2.60) |" in text
    page = tmp_path / "flops.md"
    page.write_text(f"# FLOPs\n\n{BEGIN}\nold\n{END}\n\nthe rest\n")
    put_into(page, RESULT)
    put_into(page, RESULT)
    assert page.read_text() == f"# FLOPs\n\n{BEGIN}\n{text}\n{END}\n\nthe rest\n"
    page.write_text("no table")
    with pytest.raises(ValueError, match="has no table"):
        put_into(page, RESULT)


def test_the_page_of_flops_has_a_place_for_the_tables() -> None:
    page = (Path(__file__).parent.parent / "docs/flops.md").read_text()
    assert page.index(BEGIN) < page.index(END)
