"""Train a small character-level Transformer on the Python standard library's sources, and say what it cost.

    python examples/train_transformer.py
    energyprof run examples/train_transformer.py --steps 500

Half a minute on two CPU cores; a GPU is used if there is one. Only the lines that name `run` belong to
energyprof: the training is the same without them.
"""

from __future__ import annotations

import argparse
import sysconfig
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import energyprof

CHARACTERS = 128  # ASCII; anything else becomes "?"


class CharTransformer(nn.Module):
    def __init__(self, dim: int, layers: int, context: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(CHARACTERS, dim)
        self.position = nn.Parameter(torch.randn(context, dim) * 0.02)
        block = nn.TransformerEncoderLayer(
            dim, dim // 32, 4 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.head = nn.Linear(dim, CHARACTERS)

    def forward(self, text: Tensor) -> Tensor:
        length = text.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(length, device=text.device)
        hidden = self.blocks(self.embed(text) + self.position[:length], mask=mask, is_causal=True)
        out: Tensor = self.head(hidden)
        return out


def read_sources(limit: int) -> Tensor:
    """The standard library's modules, one after the other, as codes of characters."""
    text = bytearray()
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text += path.read_text(encoding="utf-8", errors="replace").encode("ascii", errors="replace")
        if len(text) >= limit:
            break
    return torch.frombuffer(text[:limit], dtype=torch.uint8).long()


def draw(text: Tensor, batch: int, context: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Random windows of the text, and the same windows one character on."""
    starts = torch.randint(len(text) - context - 1, (batch, 1))
    windows = text[starts + torch.arange(context + 1)].to(device)
    return windows[:, :-1], windows[:, 1:]


def loss_of(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


def finish(device: torch.device) -> None:
    """A GPU works behind the program's back: wait for it, so that a region ends when its work does."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=200, help="optimizer steps (default: %(default)s)")
    parser.add_argument(
        "--batch-size",
        "--batch",
        dest="batch",
        type=int,
        default=32,
        help="windows a step (default: %(default)s)",
    )
    parser.add_argument("--context", type=int, default=128, help="characters a window (default: %(default)s)")
    parser.add_argument("--dim", type=int, default=128, help="width, a multiple of 32 (default: %(default)s)")
    parser.add_argument("--layers", type=int, default=3, help="Transformer blocks (default: %(default)s)")
    parser.add_argument("--megabytes", type=float, default=3.0, help="text to read (default: %(default)s)")
    args = parser.parse_args()

    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    with energyprof.profile("train-transformer") as run:
        with run.region("load"):
            text = read_sources(int(args.megabytes * 1e6))
            held_out, text = text[: len(text) // 10], text[len(text) // 10 :]
            model = CharTransformer(args.dim, args.layers, args.context).to(device)
            optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
            finish(device)

        with run.region("train"):
            for step in run.steps(range(args.steps)):
                with run.region("data"):
                    inputs, targets = draw(text, args.batch, args.context, device)
                with run.region("forward"):
                    loss = loss_of(model, inputs, targets)
                    finish(device)
                with run.region("backward"):
                    optimizer.zero_grad()
                    loss.backward()
                    finish(device)
                with run.region("optimizer"):
                    optimizer.step()
                    finish(device)
                run.count(samples=args.batch, tokens=inputs.numel())
                if step % 25 == 0 or step == args.steps - 1:
                    print(f"step {step:4d}  loss {loss.item():.3f}", flush=True)

        with run.region("evaluate"), torch.no_grad():
            batches = [draw(held_out, args.batch, args.context, device) for _ in range(40)]
            held_out_loss = sum(loss_of(model, *batch).item() for batch in batches) / len(batches)
        run.log(loss=held_out_loss)
        print(f"held-out loss {held_out_loss:.3f}")

    result = run.result
    if result.energy_j is None:
        raise SystemExit(f"no energy: {result.reason}")
    print(f"\n{result.energy_j:.1f} J ± {result.u95_j:.1f} J in {result.duration_s:.1f} s")
    columns = ["region", "calls", "duration_s", "energy_j", "u95_j", "method", "reason"]
    totals = result.regions.loc[result.regions["channel"] == "total", columns]
    print(totals.to_string(index=False, float_format="{:.2f}".format, na_rep="-"))


if __name__ == "__main__":
    main()
