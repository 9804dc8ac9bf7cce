"""ResNet-50, of timm and of transformers: the same 53 convolutions under other names.

timm stands in the benchmark; the other in the tests, since timm imports torchvision, whose build must match torch's.
"""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.zoo import stubs
from benchmarks.zoo.closed import Closed, Own, convolution, linear
from benchmarks.zoo.entry import Entry, integers

_EXPANSION = 4  # a bottleneck's output over its inner width (He et al. 2015, table 1)

Name = Callable[[int, int, str], str]
"""Of stage, block, and one of: 1x1, 3x3, expand, shortcut."""


def _bottlenecks(
    batch: int, side: int, stem: int, widths: list[int], depths: list[int], name: Name
) -> dict[str, Own]:
    """All stages, from the side of the image; each but the first halves it in its first 3x3."""
    found: dict[str, Own] = {}
    side, channels = _halved(_halved(side)), stem  # the stem's stride, then its pooling
    for stage, (width, depth) in enumerate(zip(widths, depths)):
        inner = width // _EXPANSION
        for block in range(depth):
            before = side
            side = _halved(side) if stage and not block else side
            positions, wide = batch * side**2, batch * before**2
            found[name(stage, block, "1x1")] = convolution(wide, 1, channels, inner)
            found[name(stage, block, "3x3")] = convolution(positions, 9, inner, inner)
            found[name(stage, block, "expand")] = convolution(positions, 1, inner, width)
            if not block:
                found[name(stage, block, "shortcut")] = convolution(positions, 1, channels, width)
            channels = width
    return found


def _halved(side: int) -> int:
    return (side + 1) // 2


def _stem(batch: int, side: int, outputs: int) -> Own:
    return convolution(batch * _halved(side) ** 2, 49, 3, outputs, of_data=True)


def _hf_config(small: bool) -> Any:
    from transformers import ResNetConfig

    fifty: dict[str, Any] = {
        "embedding_size": 64,
        "hidden_sizes": [256, 512, 1024, 2048],
        "depths": [3, 4, 6, 3],
        "num_labels": 1000,
    }
    tiny: dict[str, Any] = {
        "embedding_size": 8,
        "hidden_sizes": [16, 32],
        "depths": [2, 2],
        "num_labels": 10,
    }
    return ResNetConfig(**(tiny if small else fifty))


def _hf(config: Any) -> Any:
    from transformers import ResNetForImageClassification

    return ResNetForImageClassification(config)


def _hf_inputs(config: Any, shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    batch, side = shape
    pixels = torch.randn(batch, 3, side, side)
    return {"pixel_values": pixels, "labels": integers(config.num_labels, batch)}


def _hf_name(stage: int, block: int, part: str) -> str:
    place = {"1x1": "layer.0", "3x3": "layer.1", "expand": "layer.2"}.get(part, part)
    return f"resnet.encoder.stages.{stage}.layers.{block}.{place}.convolution"


def _hf_closed(config: Any, shape: tuple[int, ...]) -> Closed:
    batch, side = shape
    widths, stem = list(config.hidden_sizes), config.embedding_size
    return {
        "resnet.embedder.embedder.convolution": _stem(batch, side, stem),
        **_bottlenecks(batch, side, stem, widths, list(config.depths), _hf_name),
        "classifier.1": linear(batch, widths[-1], config.num_labels),
    }


def _timm_config(small: bool) -> Any:
    return SimpleNamespace(depths=[1, 1, 1, 1] if small else [3, 4, 6, 3], classes=10 if small else 1000)


def _timm(config: Any) -> Any:
    with stubs.torchvision():
        from timm.models.resnet import Bottleneck, ResNet

    return ResNet(block=Bottleneck, layers=config.depths, num_classes=config.classes)


def _timm_inputs(config: Any, shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    batch, side = shape
    return {"x": torch.randn(batch, 3, side, side)}


def _timm_name(stage: int, block: int, part: str) -> str:
    place = {"1x1": "conv1", "3x3": "conv2", "expand": "conv3", "shortcut": "downsample.0"}[part]
    return f"layer{stage + 1}.{block}.{place}"


def _timm_closed(config: Any, shape: tuple[int, ...]) -> Closed:
    batch, side = shape
    widths = [256, 512, 1024, 2048]
    return {
        "conv1": _stem(batch, side, 64),
        **_bottlenecks(batch, side, 64, widths, config.depths, _timm_name),
        "fc": linear(batch, widths[-1], config.classes),
    }


RESNET = Entry(
    "resnet50", "ResNet-50 (timm)", _timm_config, _timm, _timm_inputs, _timm_closed, (1, 224), (2, 33), "timm"
)
RESNET_HF = Entry("resnet50_hf", "ResNet-50", _hf_config, _hf, _hf_inputs, _hf_closed, (1, 224), (2, 33))
