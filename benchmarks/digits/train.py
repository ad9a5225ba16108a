"""Train a network of this benchmark: ``python -m benchmarks.digits.train NAME --seed S``.

Writes the weights as float16 and adds a line to ``accuracy.json`` with what these rounded weights reach on held-out digits.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.digits.collages import CLASSES, draw
from benchmarks.digits.networks import NETWORKS, build
from benchmarks.report import read_json, write_json

WEIGHTS = Path(__file__).parent / "weights"
STEPS = {
    "cnn-relu": 1500,
    "cnn-gelu": 1500,
    "cnn-silu": 1500,
    "cnn-hardswish": 1500,
    "convnext": 4000,
    "hybrid": 4000,
    "vit": 5000,
    "vit-mean": 5000,
    "swin": 3500,
    "cnn-groupnorm": 1500,
    "convnext-batchnorm": 3500,
    "layernorm-first": 2500,
    "preact-resnet": 1500,
    "mobilevit": 1500,
    "cnn-elu": 1500,
    "cnn-tanh": 1500,
    "cnn-linear-end": 1500,
    "convnext-rectified": 2500,
    "linear-bottlenecks": 1500,
}
"""Gradient steps of each network: two to five minutes on one core."""
BATCH = 64
WARMUP = 200  # steps
LEARNING_RATE = 2e-3


def train(name: str, seed: int, steps: int) -> nn.Module:
    """A trained network, in evaluation mode; the same on each run on the same machine.

    AdamW, a short warmup and linear decay; one sigmoid for each class, so that a logit speaks of its class alone. Each batch is drawn
    anew from the training digits.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = build(name).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / WARMUP) * (1.0 - step / steps)
    )
    for step in range(1, steps + 1):
        batch = draw(rng, BATCH, "train")
        loss = binary_cross_entropy_with_logits(network(batch.images), batch.present) * CLASSES
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimiser.step()
        schedule.step()
        if step % 250 == 0:
            print(f"{name} seed {seed}: step {step} of {steps}, loss {loss.item():.3f}", flush=True)
    return network.eval()


@torch.no_grad()
def accuracy(network: nn.Module, collages: int = 1000) -> dict[str, float]:
    """Share of the k highest logits that are in the image, for held-out collages of k digits, k = 1, 2 and 4."""
    rng = np.random.default_rng(99)
    found = {}
    for digits in (1, 2, 4):
        batch = draw(rng, collages, "held-out", digits)
        best = network(batch.images).topk(digits, dim=1).indices
        found[f"{digits} of {digits}"] = round(batch.present.gather(1, best).mean().item(), 4)
    return found


def rounded(network: nn.Module) -> dict[str, Tensor]:
    """The state of a network with floating point numbers as float16."""
    return {k: v.half() if v.is_floating_point() else v for k, v in network.state_dict().items()}


def load(name: str, seed: int, directory: Path = WEIGHTS) -> nn.Module:
    """A network with its trained weights, in float32 and evaluation mode.

    Raises:
        FileNotFoundError: where these weights have not been trained.
    """
    network = build(name)
    network.load_state_dict(torch.load(directory / f"{name}-{seed}.pt", weights_only=True))
    return network.eval()


def save(name: str, seed: int, steps: int, network: nn.Module, directory: Path) -> dict[str, Any]:
    """Write the weights, read them back, and write what they reach."""
    directory.mkdir(parents=True, exist_ok=True)
    torch.save(rounded(network), directory / f"{name}-{seed}.pt")
    line = {
        "network": name,
        "seed": seed,
        "steps": steps,
        "parameters": sum(p.numel() for p in network.parameters()),
        "accuracy": accuracy(load(name, seed, directory)),
    }
    path = directory / "accuracy.json"
    others = [o for o in read_json(path) or [] if (o["network"], o["seed"]) != (name, seed)]
    order = list(NETWORKS)
    write_json(path, sorted([*others, line], key=lambda o: (order.index(o["network"]), o["seed"])))
    return line


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=list(NETWORKS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="gradient steps (default: those of the committed weights)")
    parser.add_argument("--directory", type=Path, default=WEIGHTS, help="where the weights go")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    steps = given.steps or STEPS[given.network]
    network = train(given.network, given.seed, steps)
    print(json.dumps(save(given.network, given.seed, steps, network, given.directory)))


if __name__ == "__main__":
    main()
