"""Nine models with random weights, and their FLOPs in closed form, derived here from their configurations alone."""

from __future__ import annotations

from benchmarks.zoo.convolutions import RESNET, RESNET_HF
from benchmarks.zoo.decoders import GPT2, LLAMA, MIXTRAL
from benchmarks.zoo.encoders import BERT, VIT, VIT_SMALL
from benchmarks.zoo.entry import Entry
from benchmarks.zoo.sequences import T5, WHISPER

NINE: tuple[Entry, ...] = (BERT, GPT2, LLAMA, VIT, T5, MIXTRAL, WHISPER, RESNET, VIT_SMALL)
ENTRIES = {entry.name: entry for entry in (*NINE, RESNET_HF)}

__all__ = ["ENTRIES", "NINE", "RESNET_HF", "Entry"]
