"""T5 and Whisper of transformers: an encoder, and a decoder that looks at it."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.zoo.closed import Closed, Own, attention, convolution, linear
from benchmarks.zoo.entry import Entry, integers


def _t5_config(small: bool) -> Any:
    from transformers import T5Config

    t5_small: dict[str, Any] = {
        "d_model": 512,
        "d_kv": 64,
        "d_ff": 2048,
        "num_layers": 6,
        "num_heads": 8,
        "vocab_size": 32128,
    }
    tiny: dict[str, Any] = {
        "d_model": 32,
        "d_kv": 8,
        "d_ff": 64,
        "num_layers": 2,
        "num_heads": 4,
        "vocab_size": 61,
    }
    fixed: dict[str, Any] = {"dropout_rate": 0.0, "use_cache": False, "decoder_start_token_id": 0}
    return T5Config(**(tiny if small else t5_small), **fixed)


def _t5(config: Any) -> Any:
    from transformers import T5ForConditionalGeneration

    return T5ForConditionalGeneration(config)


def _t5_inputs(config: Any, shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    batch, source, target = shape
    return {
        "input_ids": integers(config.vocab_size, batch, source),
        "labels": integers(config.vocab_size, batch, target),
    }


def _t5_closed(config: Any, shape: tuple[int, ...]) -> Closed:
    batch, source, target = shape
    width, inner = config.d_model, config.num_heads * config.d_kv
    found: dict[str, Own] = {"lm_head": linear(batch * target, width, config.vocab_size)}

    def attend(part: str, queries: int, keys: int) -> None:
        found[part] = attention(batch, queries, keys, inner)
        found[f"{part}.q"] = linear(batch * queries, width, inner)
        found[f"{part}.k"] = linear(batch * keys, width, inner)
        found[f"{part}.v"] = linear(batch * keys, width, inner)
        found[f"{part}.o"] = linear(batch * queries, inner, width)

    def feed(part: str, length: int) -> None:
        found[f"{part}.wi"] = linear(batch * length, width, config.d_ff)
        found[f"{part}.wo"] = linear(batch * length, config.d_ff, width)

    for index in range(config.num_layers):
        block = f"encoder.block.{index}.layer"
        attend(f"{block}.0.SelfAttention", source, source)
        feed(f"{block}.1.DenseReluDense", source)
    for index in range(config.num_decoder_layers):
        block = f"decoder.block.{index}.layer"
        attend(f"{block}.0.SelfAttention", target, target)
        attend(f"{block}.1.EncDecAttention", target, source)
        feed(f"{block}.2.DenseReluDense", target)
    return found


def _whisper_config(small: bool) -> Any:
    from transformers import WhisperConfig

    width, heads, inner, layers = (32, 4, 64, 2) if small else (384, 6, 1536, 4)  # those of whisper-tiny
    return WhisperConfig(
        d_model=width,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=inner,
        decoder_ffn_dim=inner,
        num_mel_bins=16 if small else 80,
        max_source_positions=30 if small else 1500,
        vocab_size=61 if small else 51865,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
        use_cache=False,
    )


def _whisper(config: Any) -> Any:
    from transformers import WhisperForConditionalGeneration

    return WhisperForConditionalGeneration(config)


def _whisper_inputs(config: Any, shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    batch, target = shape
    return {
        "input_features": torch.randn(batch, config.num_mel_bins, 2 * config.max_source_positions),
        "labels": integers(config.vocab_size, batch, target),
    }


def _whisper_closed(config: Any, shape: tuple[int, ...]) -> Closed:
    """Sound is data: the first convolution has no gradient of its input. The second halves the frames."""
    batch, target = shape
    width, source, inner = config.d_model, config.max_source_positions, config.encoder_ffn_dim
    found: dict[str, Own] = {
        "model.encoder.conv1": convolution(batch * 2 * source, 3, config.num_mel_bins, width, of_data=True),
        "model.encoder.conv2": convolution(batch * source, 3, width, width),
        "proj_out": linear(batch * target, width, config.vocab_size),
    }

    def attend(part: str, queries: int, keys: int) -> None:
        found[part] = attention(batch, queries, keys, width)
        found[f"{part}.q_proj"] = linear(batch * queries, width, width)
        found[f"{part}.k_proj"] = linear(batch * keys, width, width)
        found[f"{part}.v_proj"] = linear(batch * keys, width, width)
        found[f"{part}.out_proj"] = linear(batch * queries, width, width)

    def feed(part: str, length: int) -> None:
        found[f"{part}.fc1"] = linear(batch * length, width, inner)
        found[f"{part}.fc2"] = linear(batch * length, inner, width)

    for index in range(config.encoder_layers):
        layer = f"model.encoder.layers.{index}"
        attend(f"{layer}.self_attn", source, source)
        feed(layer, source)
    for index in range(config.decoder_layers):
        layer = f"model.decoder.layers.{index}"
        attend(f"{layer}.self_attn", target, target)
        attend(f"{layer}.encoder_attn", target, source)
        feed(layer, target)
    return found


T5 = Entry(
    "t5", "T5-small, 128 and 64 tokens", _t5_config, _t5, _t5_inputs, _t5_closed, (1, 128, 64), (2, 12, 7)
)
WHISPER = Entry(
    "whisper",
    "Whisper-tiny, 30 s and 64 tokens",
    _whisper_config,
    _whisper,
    _whisper_inputs,
    _whisper_closed,
    (1, 64),
    (2, 7),
)
