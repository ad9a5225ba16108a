"""Do two checkouts of the package return the same maps to the bit, and does one take longer than the other?

    python tools/compare_checkouts.py maps ../before .
    python tools/compare_checkouts.py speed ../before .

Each checkout runs in a process of its own. ``maps`` explains ten networks of torchvision with random weights, biases and
batch statistics: LRP and both contrasts, both poolings, absorbed and conserved. It lists each map whose bytes differ, with
the relative L2 distance, and ends with status 1 if any does. ``speed`` explains a picture, or a batch, with VGG16 and with
EfficientNet-Lite0: the checkouts take turns, and the shortest of several rounds counts, so that whatever else the machine
does burdens both alike.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = ["alexnet", "vgg11_bn", "resnet18", "densenet121", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0"]
NETWORKS += ["googlenet", "shufflenet_v2_x0_5", "regnet_y_400mf"]
TIMED = ("vgg16", "tf_efficientnet_lite0")
METHODS = ("LRPZBeta", "ContrastiveLRP1", "ContrastiveLRP2")


def main() -> int:
    """Read the command line and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["maps", "speed"])
    parser.add_argument("before", type=Path, help="folder of a checkout")
    parser.add_argument("after", type=Path, help="folder of another")
    parser.add_argument("--networks", nargs="+", metavar="NAME", help="default: ten for maps, two for speed")
    parser.add_argument("--rounds", type=int, default=7, help="of speed; the shortest counts (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of each process (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=1, help="pictures per call of speed (default: %(default)s)")
    parser.add_argument("--precision", default="float32", help="of relevance, of speed (default: %(default)s)")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.worker:
        return work(args)
    compare = compare_maps if args.what == "maps" else compare_speed
    return compare(args)


# --- the parent


def compare_maps(args: argparse.Namespace) -> int:
    """Print which maps differ; 1 if any does."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{name}.npz") for name in ("before", "after")]
        workers = [
            start(args, checkout, args.networks or NETWORKS, file)
            for checkout, file in zip((args.before, args.after), files, strict=True)
        ]
        if any(worker.wait() for worker in workers):
            return 2
        before, after = (np.load(file) for file in files)
        different = 0
        for name in before.files:
            first, second = before[name], after[name]
            if first.tobytes() != second.tobytes():
                different += 1
                distance = np.linalg.norm(first - second) / np.linalg.norm(first)
                print(f"{name}: differs by {distance:.1e}")
        print(f"{len(before.files) - different} of {len(before.files)} maps are equal to the bit")
    return int(different > 0)


def compare_speed(args: argparse.Namespace) -> int:
    """Print the shortest times."""
    for network in args.networks or TIMED:
        workers = [start(args, checkout, [network], Path(os.devnull)) for checkout in (args.before, args.after)]
        times: list[list[dict[str, float]]] = [[], []]
        for _ in range(args.rounds):
            for worker, taken in zip(workers, times, strict=True):
                worker.stdin.write("go\n")
                worker.stdin.flush()
                answer = worker.stdout.readline().split()
                if not answer:
                    return 2
                taken.append(dict(zip(METHODS, map(float, answer), strict=True)))
        for worker in workers:
            worker.stdin.close()
            worker.wait()
        for method in METHODS:
            before, after = (min(t[method] for t in taken) for taken in times)
            print(f"{network} {method}: {before:.3f} s before, {after:.3f} s after ({after / before - 1:+.1%})")
    return 0


def start(args: argparse.Namespace, checkout: Path, networks: Any, file: Path) -> subprocess.Popen[str]:
    """A process that imports the package from ``checkout``."""
    if not (checkout / "captum_clrp" / "__init__.py").exists():
        sys.exit(f"{checkout} is no checkout of the package: it holds no captum_clrp")
    command = [sys.executable, __file__, args.what, str(checkout), str(checkout), "--worker", str(file)]
    command += ["--threads", str(args.threads), "--batch", str(args.batch), "--precision", args.precision]
    command += ["--networks", *networks]
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE} if args.what == "speed" else {}
    return subprocess.Popen(command, text=True, env=environment, **pipes)  # type: ignore[call-overload]


# --- the child: one checkout


def work(args: argparse.Namespace) -> int:
    """What that process does."""
    import captum_clrp

    checkout, networks = args.before, args.networks
    found = Path(captum_clrp.__file__).parents[1]
    if found != checkout.resolve():
        sys.exit(f"{checkout} was asked for, but captum_clrp is imported from {found}")
    sys.path.append(str(ROOT / "tests"))
    if args.what == "maps":
        np.savez(args.worker, **{name: map_.numpy() for network in networks for name, map_ in maps(network)})
    else:
        (network,) = networks
        answer_with_times(network, args.batch, args.precision)
    return 0


def maps(network: str) -> Iterator[tuple[str, torch.Tensor]]:
    """Each map with its name, (2, 3, 64, 64)."""
    from helpers.nets import HIGH, LOW, pictures, torchvision_network

    import captum_clrp

    model, images = torchvision_network(network), pictures(2, 64)
    for method in METHODS:
        for avg_pool in ("proportional", "even"):
            for conserve in (False, True):
                explain = getattr(captum_clrp, method)(model, LOW, HIGH, avg_pool=avg_pool, conserve=conserve)
                signed = {} if method == "LRPZBeta" else {"relu_attributions": False}
                name = f"{network} {method} {avg_pool}{' conserve' if conserve else ''}"
                yield name, explain.attribute(images, target=[1, 7], **signed)


def answer_with_times(network: str, batch: int, precision: str) -> None:
    """For each line that comes in, a line of seconds for each method."""
    from helpers.nets import HIGH, LOW, pictures, randomised, torchvision_network

    import captum_clrp

    if network.startswith("tf_"):
        import timm

        torch.manual_seed(0)
        model = randomised(timm.create_model(network, pretrained=False))
    else:
        model = torchvision_network(network)
    images = pictures(batch, 224)
    methods = [getattr(captum_clrp, method)(model, LOW, HIGH, precision=precision) for method in METHODS]
    for method in methods:
        method.attribute(images, target=1)  # weights of the rules are derived once
    for _ in sys.stdin:
        taken = []
        for method in methods:
            started = time.perf_counter()
            method.attribute(images, target=1)
            taken.append(time.perf_counter() - started)
        print(*taken, flush=True)


if __name__ == "__main__":
    sys.exit(main())
