"""BERT, and the Vision Transformer of transformers and of timm."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.zoo import stubs
from benchmarks.zoo.closed import Closed, Own, attention, convolution, linear
from benchmarks.zoo.entry import Entry, integers


def _bert_config(small: bool) -> Any:
    from transformers import BertConfig

    base: dict[str, Any] = {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
    }
    tiny: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
    }
    return BertConfig(
        **(tiny if small else base),
        vocab_size=61 if small else 30522,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def _bert(config: Any) -> Any:
    from transformers import BertModel

    return BertModel(config)


def _bert_inputs(config: Any, shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {"input_ids": integers(config.vocab_size, *shape)}


def _bert_closed(config: Any, shape: tuple[int, ...]) -> Closed:
    """With the pooler, which sees the first token of each sequence."""
    batch, length = shape
    rows, width, inner = batch * length, config.hidden_size, config.intermediate_size
    found: dict[str, Own] = {"pooler.dense": linear(batch, width, width)}
    for index in range(config.num_hidden_layers):
        layer = f"encoder.layer.{index}"
        found[f"{layer}.attention.self"] = attention(batch, length, length, width)
        for name in ("self.query", "self.key", "self.value", "output.dense"):
            found[f"{layer}.attention.{name}"] = linear(rows, width, width)
        found[f"{layer}.intermediate.dense"] = linear(rows, width, inner)
        found[f"{layer}.output.dense"] = linear(rows, inner, width)
    return found


def _vit_config(small: bool) -> Any:
    from transformers import ViTConfig

    base: dict[str, Any] = {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "image_size": 224,
        "patch_size": 16,
        "num_labels": 1000,
    }
    tiny: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "image_size": 32,
        "patch_size": 8,
        "num_labels": 10,
    }
    return ViTConfig(**(tiny if small else base))


def _vit(config: Any) -> Any:
    from transformers import ViTForImageClassification

    return ViTForImageClassification(config)


def _images(config: Any, shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    pixels = torch.randn(*shape, 3, config.image_size, config.image_size)
    return {"pixel_values": pixels, "labels": integers(config.num_labels, *shape)}


def _vit_closed(config: Any, shape: tuple[int, ...]) -> Closed:
    """Patches and one class token, from which the classifier reads. The patches' input is data: no gradient."""
    (batch,), width, inner = shape, config.hidden_size, config.intermediate_size
    patches = (config.image_size // config.patch_size) ** 2
    rows = batch * (patches + 1)
    found: dict[str, Own] = {
        "vit.embeddings.patch_embeddings.projection": convolution(
            batch * patches, config.patch_size**2, 3, width, of_data=True
        ),
        "classifier": linear(batch, width, config.num_labels),
    }
    for index in range(config.num_hidden_layers):
        layer = f"vit.layers.{index}"
        found[f"{layer}.attention"] = attention(batch, patches + 1, patches + 1, width)
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            found[f"{layer}.attention.{name}"] = linear(rows, width, width)
        found[f"{layer}.mlp.fc1"] = linear(rows, width, inner)
        found[f"{layer}.mlp.fc2"] = linear(rows, inner, width)
    return found


def _timm_config(small: bool) -> Any:
    return SimpleNamespace(
        width=32 if small else 384,
        depth=2 if small else 12,
        heads=4 if small else 6,
        image_size=32 if small else 224,
        patch=8 if small else 16,
        classes=10 if small else 1000,
    )


def _timm(config: Any) -> Any:
    with stubs.torchvision():
        from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=config.image_size,
        patch_size=config.patch,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.heads,
        num_classes=config.classes,
    )


def _timm_inputs(config: Any, shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    return {"x": torch.randn(*shape, 3, config.image_size, config.image_size)}


def _timm_closed(config: Any, shape: tuple[int, ...]) -> Closed:
    (batch,), width = shape, config.width
    patches = (config.image_size // config.patch) ** 2
    rows = batch * (patches + 1)
    found: dict[str, Own] = {
        "patch_embed.proj": convolution(batch * patches, config.patch**2, 3, width, of_data=True),
        "head": linear(batch, width, config.classes),
    }
    for index in range(config.depth):
        block = f"blocks.{index}"
        found[f"{block}.attn"] = attention(batch, patches + 1, patches + 1, width)
        found[f"{block}.attn.qkv"] = linear(rows, width, 3 * width)
        found[f"{block}.attn.proj"] = linear(rows, width, width)
        found[f"{block}.mlp.fc1"] = linear(rows, width, 4 * width)
        found[f"{block}.mlp.fc2"] = linear(rows, 4 * width, width)
    return found


BERT = Entry(
    "bert", "BERT-base, 128 tokens", _bert_config, _bert, _bert_inputs, _bert_closed, (1, 128), (2, 12)
)
VIT = Entry("vit", "ViT-B/16", _vit_config, _vit, _images, _vit_closed, (1,), (2,))
VIT_SMALL = Entry(
    "vit_small", "ViT-S/16 (timm)", _timm_config, _timm, _timm_inputs, _timm_closed, (1,), (2,), "timm"
)
