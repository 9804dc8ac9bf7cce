"""GPT-2, a Llama whose queries share keys, and a mixture of experts: language models of transformers."""

from __future__ import annotations

from typing import Any

from benchmarks.zoo.closed import Closed, Own, attention, linear
from benchmarks.zoo.entry import Entry, integers

_NO_TOKENS: dict[str, Any] = {
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}  # outside a small vocabulary


def _tokens(config: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    tokens = integers(config.vocab_size, *shape)
    return {"input_ids": tokens, "labels": tokens}


def _gpt2_config(small: bool) -> Any:
    from transformers import GPT2Config

    of_124m: dict[str, Any] = {"n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257}
    tiny: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 61}
    return GPT2Config(
        **(tiny if small else of_124m),
        **_NO_TOKENS,
        use_cache=False,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    )


def _gpt2(config: Any) -> Any:
    from transformers import GPT2LMHeadModel

    return GPT2LMHeadModel(config)


def _gpt2_closed(config: Any, shape: tuple[int, ...]) -> Closed:
    batch, length = shape
    rows, width = batch * length, config.n_embd
    found: dict[str, Own] = {"lm_head": linear(rows, width, config.vocab_size)}
    for index in range(config.n_layer):
        block = f"transformer.h.{index}"
        found[f"{block}.attn"] = attention(batch, length, length, width)
        found[f"{block}.attn.c_attn"] = linear(rows, width, 3 * width)
        found[f"{block}.attn.c_proj"] = linear(rows, width, width)
        found[f"{block}.mlp.c_fc"] = linear(rows, width, 4 * width)
        found[f"{block}.mlp.c_proj"] = linear(rows, 4 * width, width)
    return found


_LLAMA: dict[str, Any] = {
    "hidden_size": 512,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 32000,
}
_TINY: dict[str, Any] = {
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 61,
}


def _llama_config(small: bool) -> Any:
    from transformers import LlamaConfig

    inner = {"intermediate_size": 48 if small else 1376}
    return LlamaConfig(
        **(_TINY if small else _LLAMA),
        **inner,
        **_NO_TOKENS,
        num_hidden_layers=2 if small else 8,
        use_cache=False,
    )


def _llama(config: Any) -> Any:
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM(config)


def _grouped_queries(config: Any, shape: tuple[int, ...]) -> dict[str, Own]:
    """Embedding, attention and head, which Llama and Mixtral share."""
    batch, length = shape
    rows, width = batch * length, config.hidden_size
    of_keys = width // config.num_attention_heads * config.num_key_value_heads
    # The rotary angles, positions x frequencies, are an outer product: nothing is summed, so elementwise work.
    found = {"lm_head": linear(rows, width, config.vocab_size)}
    for index in range(config.num_hidden_layers):
        part = f"model.layers.{index}.self_attn"
        found[part] = attention(batch, length, length, width)
        found[f"{part}.q_proj"] = linear(rows, width, width)
        found[f"{part}.k_proj"] = linear(rows, width, of_keys)
        found[f"{part}.v_proj"] = linear(rows, width, of_keys)
        found[f"{part}.o_proj"] = linear(rows, width, width)
    return found


def _llama_closed(config: Any, shape: tuple[int, ...]) -> Closed:
    rows, width, inner = shape[0] * shape[1], config.hidden_size, config.intermediate_size
    found = _grouped_queries(config, shape)
    for index in range(config.num_hidden_layers):
        part = f"model.layers.{index}.mlp"
        found[f"{part}.gate_proj"] = linear(rows, width, inner)
        found[f"{part}.up_proj"] = linear(rows, width, inner)
        found[f"{part}.down_proj"] = linear(rows, inner, width)
    return found


def _mixtral_config(small: bool) -> Any:
    from transformers import MixtralConfig

    inner = {"intermediate_size": 48 if small else 1024}
    return MixtralConfig(
        **(_TINY if small else _LLAMA),
        **inner,
        **_NO_TOKENS,
        num_hidden_layers=2 if small else 4,
        num_local_experts=8,
        num_experts_per_tok=2,
        use_cache=False,
    )


def _mixtral(config: Any) -> Any:
    from transformers import MixtralForCausalLM

    return MixtralForCausalLM(config)


def _mixtral_closed(config: Any, shape: tuple[int, ...]) -> Closed:
    """Each token meets as many experts as it is sent to, whichever they are."""
    rows, width, inner = shape[0] * shape[1], config.hidden_size, config.intermediate_size
    sent = rows * config.num_experts_per_tok
    found = _grouped_queries(config, shape)
    for index in range(config.num_hidden_layers):
        part = f"model.layers.{index}.mlp"
        expert = [linear(sent, width, 2 * inner), linear(sent, inner, width)]
        found[f"{part}.gate"] = linear(rows, width, config.num_local_experts)
        found[f"{part}.experts"] = Own(
            sum(own.flops_forward for own in expert), sum(own.flops_backward for own in expert)
        )
    return found


GPT2 = Entry("gpt2", "GPT-2 124M, 256 tokens", _gpt2_config, _gpt2, _tokens, _gpt2_closed, (1, 256), (2, 12))
LLAMA = Entry(
    "llama",
    "Llama, grouped queries, d 512, 8 layers, 256 tokens",
    _llama_config,
    _llama,
    _tokens,
    _llama_closed,
    (1, 256),
    (2, 12),
)
MIXTRAL = Entry(
    "mixtral",
    "Mixtral, 2 of 8 experts, d 512, 4 layers, 128 tokens",
    _mixtral_config,
    _mixtral,
    _tokens,
    _mixtral_closed,
    (1, 128),
    (2, 12),
)
