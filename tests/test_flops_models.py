"""The static forward report of whole models equals the closed forms of their configurations, to the FLOP."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from energyprof.flops.static import forward_report


class Block(nn.Module):
    """A bottleneck with a grouped or depthwise convolution."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.relu(x + self.body(x))


def test_a_residual_network_equals_its_closed_form_by_layer() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 16, 7, stride=2, padding=3), nn.MaxPool2d(2), Block(16, 4), Block(16, 16),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip
    report = forward_report(model, torch.rand(2, 3, 32, 32))
    places = 2 * 8 * 8
    stem, point, head = 2 * 2 * 16 * 16 * 16 * 3 * 49, 2 * places * 256, 2 * 2 * 16 * 10
    grouped, depthwise = 2 * places * 16 * 4 * 9, 2 * places * 16 * 9
    assert report.by_module["0"] == stem
    assert report.by_module["2.body.0"] == point
    assert report.by_module["2.body.3"] == grouped
    assert report.by_module["3.body"] == point + depthwise
    assert report.total == stem + 2 * point + grouped + depthwise + head
    assert not report.uncounted


def layers(count: int, queries: int, keys: int, width: int, kv_width: int, inner: int, gates: int = 2) -> int:
    """Attention layers of a transformer: projections, all pairs, and a feed-forward part of `gates` matrices."""
    projections = 2 * queries * 2 * width * width + 2 * keys * 2 * width * kv_width
    return count * (projections + 4 * queries * keys * width + 2 * queries * gates * width * inner)


def hugging_face(name: str, attention: str) -> tuple[nn.Module, dict[str, torch.Tensor], int]:
    transformers = pytest.importorskip("transformers")
    S, D, V, T, L = 24, 32, 97, 10, 2
    ids, target = torch.randint(0, V, (2, S)), torch.randint(0, V, (2, T))
    common = {"hidden_size": D, "num_hidden_layers": L, "num_attention_heads": 4, "intermediate_size": 64}

    def build(kind: str, config: str, **options: Any) -> nn.Module:
        made = getattr(transformers, config)(**options)
        made._attn_implementation = attention
        return getattr(transformers, kind)(made)

    encoder = 2 * layers(L, S, S, D, D, 64)
    if name == "bert":
        model = build("BertModel", "BertConfig", vocab_size=V, **common)
        return model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}, encoder + 2 * 2 * D * D
    if name == "gpt2":
        model = build(
            "GPT2LMHeadModel", "GPT2Config", vocab_size=V, n_embd=D, n_layer=L, n_head=4, n_inner=64
        )
        return model, {"input_ids": ids, "labels": ids}, encoder + 2 * 2 * S * D * V
    if name == "llama":
        model = build("LlamaForCausalLM", "LlamaConfig", vocab_size=V, num_key_value_heads=2, **common)
        return model, {"input_ids": ids}, 2 * (layers(L, S, S, D, D // 2, 64, 3) + 2 * S * D * V)
    if name == "vit":
        model = build(
            "ViTForImageClassification", "ViTConfig", image_size=32, patch_size=8, num_labels=5, **common
        )
        truth = 2 * (layers(L, 17, 17, D, D, 64) + 2 * 16 * D * 3 * 64 + 2 * D * 5)
        return model, {"pixel_values": torch.rand(2, 3, 32, 32)}, truth
    if name == "t5":
        sizes = {
            "d_model": D,
            "d_kv": 8,
            "d_ff": 64,
            "num_layers": L,
            "num_heads": 4,
            "decoder_start_token_id": 0,
        }
        model = build("T5ForConditionalGeneration", "T5Config", vocab_size=V, **sizes)
        decoder = layers(L, T, T, D, D, 64) + layers(L, T, S, D, D, 0) + 2 * T * D * V
        return model, {"input_ids": ids, "labels": target}, encoder + 2 * decoder
    if name == "mixtral":
        sizes = {"num_key_value_heads": 2, "num_local_experts": 4, "num_experts_per_tok": 2}
        model = build("MixtralForCausalLM", "MixtralConfig", vocab_size=V, **common, **sizes)
        experts = L * (2 * S * D * 4 + 2 * S * 2 * 3 * D * 64)  # router, and two experts a token
        return model, {"input_ids": ids}, 2 * (layers(L, S, S, D, D // 2, 0) + experts + 2 * S * D * V)
    sizes = {"d_model": D, "encoder_layers": L, "decoder_layers": L, "encoder_attention_heads": 4}
    sizes |= {"decoder_attention_heads": 4, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "num_mel_bins": 8}
    ends = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    model = build(
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        vocab_size=V,
        max_source_positions=20,
        **sizes,
        **ends,
    )
    stem = 2 * 40 * D * 8 * 3 + 2 * 20 * D * D * 3
    decoder = layers(L, T, T, D, D, 64) + layers(L, T, 20, D, D, 0) + 2 * T * D * V
    batch = {"input_features": torch.rand(2, 8, 40), "decoder_input_ids": target}
    return model, batch, 2 * (layers(L, 20, 20, D, D, 64) + stem + decoder)


def executed_rows(model: nn.Module, batch: dict[str, torch.Tensor]) -> dict[str, int]:
    """What each linear layer multiplied in a real forward pass, from the sizes of what it gave."""
    rows: dict[str, int] = {}

    def row(name: str) -> Any:
        def note(layer: Any, _: Any, output: torch.Tensor) -> None:
            rows[name] = rows.get(name, 0) + 2 * output.numel() * layer.in_features

        return note

    linear = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Linear)]
    hooks = [layer.register_forward_hook(row(name)) for name, layer in linear]
    with torch.no_grad():
        model.eval()(**batch)
    for hook in hooks:
        hook.remove()
    return rows


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ["bert", "gpt2", "llama", "vit", "t5", "mixtral", "whisper"])
def test_a_transformer_equals_its_closed_form(name: str, attention: str) -> None:
    model, batch, truth = hugging_face(name, attention)
    report = forward_report(model, batch)
    assert report.total == truth
    assert report.by_module[""] == truth
    executed = executed_rows(model, batch)
    assert executed == {name: report.by_module[name] for name in executed}
    assert sum(report.by_operator.values()) == truth
    assert not report.uncounted
    assert getattr(model.config, "use_cache", True)
