"""A decorated function, alone or on several ranks that leave one run between them.

    python examples/decorated.py
    torchrun --nproc-per-node 2 examples/decorated.py

Fits a small network to the curve sin(3x)·cos(2y). Under torchrun each rank draws its own points, and the
gradients are averaged over gloo.
"""

from __future__ import annotations

import argparse
import os

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

import energyprof


def draw(points: int) -> tuple[Tensor, Tensor]:
    xy = torch.rand(points, 2) * 4 - 2
    return xy, (torch.sin(3 * xy[:, :1]) * torch.cos(2 * xy[:, 1:])).contiguous()


def average_gradients(model: nn.Module, ranks: int) -> None:
    for parameter in model.parameters():
        if parameter.grad is not None:
            dist.all_reduce(parameter.grad)
            parameter.grad /= ranks


@energyprof.profile
def fit(steps: int, points: int) -> float:
    """Train, and return the last loss. Nothing here knows how it is measured."""
    ranks = dist.get_world_size() if dist.is_initialized() else 1
    torch.manual_seed(0)  # the same weights on each rank
    model = nn.Sequential(nn.Linear(2, 256), nn.Tanh(), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    torch.manual_seed(1 + (dist.get_rank() if ranks > 1 else 0))  # other points on each

    loss = torch.tensor(float("nan"))
    for _ in range(steps):
        with energyprof.region("compute"):
            inputs, targets = draw(points)
            loss = F.mse_loss(model(inputs), targets)
            optimizer.zero_grad()
            loss.backward()
        if ranks > 1:
            with energyprof.region("all-reduce"):
                average_gradients(model, ranks)
        with energyprof.region("optimizer"):
            optimizer.step()
    return loss.item()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--points", type=int, default=2048, help="points a step and rank")
    args = parser.parse_args()

    torch.set_num_threads(1)  # leaves a core for the other rank
    under_torchrun = "RANK" in os.environ
    if under_torchrun:
        dist.init_process_group("gloo")
    try:
        loss = fit(args.steps, args.points)
        if not under_torchrun or dist.get_rank() == 0:
            print(f"loss {loss:.4f} after {args.steps} steps; what it cost: energyprof show @last")
    finally:
        if under_torchrun:
            dist.destroy_process_group()


if __name__ == "__main__":
    main()
