"""Two images and two concepts, which tests of compared methods explain."""

import torch

SIZE = 64
CONCEPTS = [torch.tensor([[1], [4]]), torch.tensor([[0], [6]])]
IDS = ["a", "b"]


def close(first, second, tolerance=1e-5):
    return float((first - second).abs().max()) <= tolerance * float(second.abs().max())
