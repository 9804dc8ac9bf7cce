"""What a generated token costs at each batch size.

    python examples/inference.py --batches 1 4 16

Generates text with a small Transformer, for two seconds or more a batch size, and prints joules a token. The
weights are random: what a token costs does not depend on what it says.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor, nn

import energyprof

VOCABULARY = 512


class Generator(nn.Module):
    def __init__(self, dim: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, dim)
        block = nn.TransformerEncoderLayer(dim, dim // 64, 4 * dim, dropout=0.0, batch_first=True)
        self.blocks = nn.TransformerEncoder(block, layers, enable_nested_tensor=False)
        self.head = nn.Linear(dim, VOCABULARY)

    def next_token(self, text: Tensor) -> Tensor:
        mask = nn.Transformer.generate_square_subsequent_mask(text.shape[1], device=text.device)
        hidden = self.blocks(self.embed(text), mask=mask, is_causal=True)
        chances = self.head(hidden[:, -1]).softmax(dim=-1)
        return torch.multinomial(chances, 1)


@torch.inference_mode()
def generate(model: Generator, batch: int, prompt: int, new_tokens: int, device: torch.device) -> Tensor:
    text = torch.randint(VOCABULARY, (batch, prompt), device=device)
    for _ in range(new_tokens):
        text = torch.cat([text, model.next_token(text)], dim=1)
    return text.cpu()  # waits for a GPU to finish


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16], help="batch sizes to try")
    parser.add_argument("--seconds", type=float, default=2.0, help="at least this long a batch size")
    parser.add_argument("--prompt", type=int, default=32, help="tokens of each prompt")
    parser.add_argument("--new-tokens", type=int, default=32, help="tokens to generate for each prompt")
    parser.add_argument("--dim", type=int, default=256, help="width, a multiple of 64")
    parser.add_argument("--layers", type=int, default=4)
    args = parser.parse_args()

    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = Generator(args.dim, args.layers).to(device).eval()
    tokens: dict[str, int] = {}

    with energyprof.profile("inference") as run:
        with run.region("warm-up"):
            generate(model, max(args.batches), args.prompt, 4, device)

        for batch in args.batches:
            name = f"batch={batch}"
            tokens[name] = 0
            end = time.monotonic() + args.seconds
            with run.region(name):
                while time.monotonic() < end:
                    generate(model, batch, args.prompt, args.new_tokens, device)
                    tokens[name] += batch * args.new_tokens
                    run.count(samples=batch, tokens=batch * args.new_tokens)

    result = run.result
    if result.energy_j is None:
        raise SystemExit(f"no energy: {result.reason}")
    print(f"{result.energy_j:.1f} J ± {result.u95_j:.1f} J in {result.duration_s:.1f} s\n")
    print(f"{'region':<12}{'tokens':>8}{'tokens/s':>10}{'J':>10}{'± J':>8}{'J/token':>10}")
    regions = result.regions
    for row in regions[regions["channel"] == "total"].itertuples():
        count = tokens.get(row.region, 0)
        if count:
            speed, each = count / row.duration_s, row.energy_j / count
            print(
                f"{row.region:<12}{count:>8}{speed:>10.1f}{row.energy_j:>10.1f}{row.u95_j:>8.1f}{each:>10.4f}"
            )


if __name__ == "__main__":
    main()
