"""Which networks of torchvision for segmentation, detection, video and optical flow are explained, and which are refused?

    python -m benchmarks.other_tasks --output docs/results

Each network has random weights, takes one made-up picture (or clip, or pair of pictures), and one value of its output is
explained: a pixel of a segmentation, a logit of an anchor, a class of a clip. *Explained* means that the relevance that
arrives at the input and what is reported as absorbed sum to the score. Of a detector both the whole and its backbone with its
head are tried. Writes ``other-tasks.json`` and ``.md``.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from benchmarks import report
from benchmarks.isolation import one_line
from benchmarks.networks import pictures, realistic
from captum_clrp import LRPZBeta, UnsupportedOperationError, check_conservation

VIDEO = ("r3d_18", "mc3_18", "r2plus1d_18", "s3d", "mvit_v1_b", "mvit_v2_s", "swin3d_t")
HEADS = ("retinanet", "fcos", "ssd")


class Head(nn.Module):
    """Backbone and head of a detector: class logits ``(N, anchors, classes)``, without boxes and their selection."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.backbone: Any = detector.backbone
        self.head: Any = detector.head

    def forward(self, x: Tensor) -> Tensor:
        features = self.backbone(x)
        logits: Tensor = self.head(list(features.values()))["cls_logits"]
        return logits


class Proposals(nn.Module):
    """Backbone and objectness of a detector that proposes regions: ``(N, anchors, H, W)`` of the finest map."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.backbone: Any = detector.backbone
        self.rpn: Any = detector.rpn.head

    def forward(self, x: Tensor) -> Tensor:
        logits: list[Tensor] = self.rpn(list(self.backbone(x).values()))[0]
        return logits[0]


@dataclass(frozen=True)
class Trial:
    """One network with what it is asked.

    Attributes:
        task: What the network is for.
        name: What torchvision calls it.
        part: Which part of it is explained; empty for the whole.
        build: Makes it.
        inputs: Shape of the input, or of both inputs.
        target: The value that is explained; ``None``: the score of a whole detector's best detection.
        pair: Whether it takes two pictures.
    """

    task: str
    name: str
    part: str
    build: Callable[[], nn.Module]
    inputs: tuple[int, ...]
    target: Any
    pair: bool = False


def _part_of(build: Callable[[], nn.Module], part: Callable[[nn.Module], nn.Module]) -> nn.Module:
    return part(build())


def trials() -> Iterator[Trial]:
    """Everything that is tried."""
    models = torchvision.models

    def plain(name: str) -> Callable[[], nn.Module]:
        options = (
            {"weights_backbone": None} if any(k in name for k in ("rcnn", "lraspp", "deeplab", "fcn", *HEADS)) else {}
        )
        return lambda: models.get_model(name, weights=None, **options)

    for name in models.list_models(module=models.segmentation):
        yield Trial("segmentation", name, "", plain(name), (1, 3, 96, 96), ("out", 5, 40, 40))
    for name in models.list_models(module=models.detection):
        yield Trial("detection", name, "", plain(name), (1, 3, 128, 128), None)
        size = 320 if name.startswith("ssd") else 128
        part = Head if name.startswith(HEADS) else Proposals
        target = (7, 1) if part is Head else (0, 3, 3)
        what = "backbone and head" if part is Head else "backbone and region proposals"
        yield Trial("detection", name, what, partial(_part_of, plain(name), part), (1, 3, size, size), target)
    for name in VIDEO:
        size = {"mvit": 224, "s3d": 224}.get(name.partition("_")[0], 64)
        yield Trial("video", name, "", plain(name), (1, 3, 16, size, size), 3)
    for name in models.list_models(module=models.optical_flow):
        yield Trial("optical flow", name, "", plain(name), (1, 3, 128, 128), (-1, 0, 3, 3), pair=True)


def _best(detections: Any) -> Any:
    """The score of the best detection of a picture, and nothing else."""
    scores = detections[0]["scores"]
    return [{"scores": scores * (torch.arange(len(scores)) == scores.argmax())}]


def outcome(trial: Trial) -> dict[str, str]:
    """What comes of one trial: explained, or the error with what it names."""
    torch.manual_seed(0)
    try:
        model = trial.build().eval()
        x = pictures(1, trial.inputs[-1], seed=7)
        if len(trial.inputs) == 5:
            x = x[:, :, None].repeat(1, 1, trial.inputs[2], 1, 1) + 0.1 * torch.rand(trial.inputs)
        inputs: Any = (x, x.flip(3)) if trial.pair else x
        if trial.task == "segmentation":
            realistic(model, size=96)
        if hasattr(model, "score_thresh"):  # a network with random weights is sure of nothing
            model.score_thresh = 0.0
        what = {"initial_relevance": _best} if trial.target is None else {"target": trial.target}
        relevance = LRPZBeta(model).attribute(inputs, **what)
        found = check_conservation(model, inputs, **what)
        lost = abs(found.unaccounted) / abs(found.score)
        good = lost < 1e-3 and all(r.isfinite().all() for r in (relevance if trial.pair else [relevance]))
        arrives = found.at_input / found.score
        return {"outcome": "explained" if good else f"loses {lost:.1%}", "detail": f"{arrives:.0%} at the input"}
    except UnsupportedOperationError as error:
        named = [line.strip("- ").split(":")[0] for line in str(error).splitlines() if line.startswith("  - ")]
        operations = sorted({name.partition(" in module")[0] for name in named})
        return {"outcome": "refused", "detail": ", ".join(operations) or one_line(error)}
    except Exception as error:  # a trial of many
        return {"outcome": "fails", "detail": one_line(error)}


def markdown(document: dict[str, Any]) -> str:
    """The report."""
    rows = [
        [row["task"], row["name"], row["part"] or "the whole", row["outcome"], row["detail"]]
        for row in document["trials"]
    ]
    return (
        "# Segmentation, detection, video, optical flow\n\n"
        f"{report.describe(document['environment'])}\n\n"
        f"Run as `{document['command']}`. Random weights; one value of the output is explained. *Explained*: what arrives at "
        "the input and what is reported as absorbed sum to it. *Refused*: by name, with the operations that have no rule.\n\n"
        + report.markdown_table(["task", "network", "part", "outcome", "what"], rows)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module's docstring."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.other_tasks", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"), help="folder for the reports")
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parser.parse_args(given)
    document: dict[str, Any] = {
        "environment": report.environment(),
        "command": " ".join(["python", "-m", "benchmarks.other_tasks", *given]),
        "trials": [],
    }
    for trial in trials():
        if options.networks is None or trial.name in options.networks:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                row = {"task": trial.task, "name": trial.name, "part": trial.part, **outcome(trial)}
            document["trials"].append(row)
            print(" | ".join(row.values())[:160], flush=True)
    report.write_json(options.output / "other-tasks.json", document)
    (options.output / "other-tasks.md").write_text(markdown(document))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
