"""``captum-clrp explain``: why a network sees the classes it sees in a picture."""

from __future__ import annotations

import argparse
from typing import Any

from captum_clrp.cli.options import add_cam_layer, add_model_options, number, value_range

METHODS = ("lrp", "clrp1", "clrp2", "clrp1-s0.9")

_DESCRIPTION = """\
Explain what an image classifier sees: for each class one row with LRP (which parts of the picture the network uses),
CLRP1 and CLRP2 (which parts favour this class over others, as in the paper), and CLRP1 with strength 0.9, which keeps a
tenth of what the contrast takes away. Without IMAGE, an embedded picture of a cat and a cup of coffee is explained
with EfficientNet-Lite0 (with the extra demo).
"""
_EPILOG = """\
examples:
  captum-clrp explain
  captum-clrp explain holiday.jpg --target "zebra, African elephant"
  captum-clrp explain photos/ --target top3 --output explained/ --report explained.html
  captum-clrp explain holiday.jpg --style contour --whole --output why.pdf --maps why.npz
  captum-clrp explain holiday.jpg --method clrp1,clrp1-s0.9,rivals5
  captum-clrp explain dog.png --model vgg16 --weights vgg16-397923af.pth --device cuda
  captum-clrp explain bird.jpg --model resnet50 --weights finetuned.ckpt --labels birds.txt
  captum-clrp explain scan.png --range 0,4095 --model mycode.nets:build --weights best.pt --mean 0.5 --std 0.2 --size 256
"""


def add_parser(subparsers: Any) -> None:
    """Add the ``explain`` command to the parser of ``captum-clrp``."""
    parser = subparsers.add_parser(
        "explain",
        help="write a picture of LRP, CLRP1 and CLRP2 for the classes of an image",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_input_options(parser)
    _add_many_options(parser)
    _add_output_options(parser)
    _add_look_options(parser)
    add_model_options(parser)
    _add_propagation_options(parser)
    needs = ("captum_clrp.cli.explaining", "timm")
    parser.set_defaults(run=run, needs=needs, interrupted="pictures written so far are complete")


def _add_input_options(parser: argparse.ArgumentParser) -> None:
    """Pictures, classes and methods."""
    parser.add_argument(
        "images",
        nargs="*",
        metavar="IMAGE",
        help="picture files, folders of them, patterns, or - for standard input (default: the embedded example)",
    )
    parser.add_argument(
        "-t",
        "--target",
        action="append",
        metavar="CLASSES",
        help="classes, separated by commas: names, indices, or topK for the K highest logits; may be given several "
        "times (default: top2)",
    )
    parser.add_argument(
        "-m",
        "--method",
        default=",".join(METHODS),
        metavar="METHODS",
        help=f"methods, separated by commas: lrp, clrp1, clrp2, rivalsK (the K highest other logits instead of all), "
        f"other-logits or sglrp; a contrast also with a strength of its own, as in clrp1-s0.9; all of them also with settings of "
        f"their own, as in lrp-even or clrp1-gamma-conserve; and what else captum-clrp evaluate compares, such as grad-cam "
        f"(default: {','.join(METHODS)})",
    )
    add_cam_layer(parser)


def _add_many_options(parser: argparse.ArgumentParser) -> None:
    """Of many pictures, and of pictures that are no photographs."""
    parser.add_argument(
        "--targets",
        metavar="FILE",
        help="classes of each picture: a text file of lines IMAGE: CLASSES, with images relative to the file's folder; without "
        "IMAGE, all that it names are explained",
    )
    parser.add_argument(
        "--batch",
        type=number(int, "no number of pictures; give 1 or more", 1),
        default=1,
        metavar="N",
        help="pictures that go through the network together (default: 1)",
    )
    parser.add_argument(
        "--range",
        type=value_range,
        metavar="BLACK,WHITE",
        help="the values that are black and white in grey pictures, e.g. 0,4095 for 12 bits, --range=-1000,400 (default: "
        "0 and the most that the file can hold)",
    )


def _add_propagation_options(parser: argparse.ArgumentParser) -> None:
    rules = parser.add_argument_group("propagation")
    rules.add_argument(
        "--strength",
        type=number(float, "no number from 0 to 1", 0, 1),
        metavar="S",
        help="how much of the dual concept's relevance a contrast subtracts, from 0 to 1 (default: 1, the paper)",
    )
    rules.add_argument(
        "--avg-pool",
        choices=("proportional", "even"),
        default="proportional",
        help="relevance passes average pooling in proportion to the positive activations, or evenly (the paper)",
    )
    rules.add_argument(
        "--conserve",
        action="store_true",
        help="spread the relevance that biases would absorb, so that the map sums to the logit",
    )
    rules.add_argument(
        "--rules",
        metavar="NAME",
        default="auto",
        help="which rule goes where: auto (default; by the network's structure), paper, gamma, epsilon-plus, "
        "epsilon-plus-flat, epsilon-gamma-box, cp-lrp or attnlrp",
    )
    rules.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "auto"),
        default="float32",
        help="arithmetic of relevance: float32 (default), bfloat16, or auto (bfloat16 where the device is fast in it)",
    )
    rules.add_argument(
        "--bounds",
        choices=("pixels", "image"),
        default="pixels",
        help="domain of the first layer's input: all pixel values (default) or the image's own range",
    )


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        metavar="PATH",
        help="file to write, .png, .jpg, .webp, .pdf or .svg, or an existing folder for IMAGE_clrp.png (default: the current "
        "folder)",
    )
    parser.add_argument(
        "--maps",
        metavar="PATH",
        help="also write the maps as .npz: maps, methods, classes, names, logits, probabilities, photograph; for several pictures "
        "an existing folder",
    )
    parser.add_argument(
        "--report",
        metavar="FILE.html",
        help="also write one page with all pictures, numbers and the rule of every operation",
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON for each picture instead of text")


def _add_look_options(parser: argparse.ArgumentParser) -> None:
    looks = parser.add_argument_group("look")
    looks.add_argument(
        "--style",
        choices=("overlay", "heatmap", "contour", "masked", "side-by-side"),
        default="overlay",
        help="the map over the greyed photograph (default), alone, as lines on the photograph, the photograph where relevance "
        "is, or photograph and map side by side",
    )
    looks.add_argument(
        "--sign",
        choices=("signed", "positive", "negative", "absolute"),
        default="signed",
        help="which relevance is shown (default: signed, red for the class and blue against it)",
    )
    looks.add_argument(
        "--smooth",
        type=number(float, "no number of pixels from 0 to 100", 0, 100),
        metavar="PIXELS",
        help="standard deviation of a Gaussian blur of the maps, in pixels of the network's input (default: 3 where map and "
        "photograph lie on each other, otherwise 0)",
    )
    looks.add_argument(
        "--opacity",
        type=number(float, "no number from 0 to 1", 0, 1),
        default=1.0,
        metavar="A",
        help="opacity of the colours of an overlay, from 0 to 1 (default: 1)",
    )
    looks.add_argument(
        "--whole", action="store_true", help="lay the maps back on the whole photograph, the crop of the network undone"
    )


def run(options: argparse.Namespace) -> int:
    """Explain all pictures; see :mod:`captum_clrp.cli.explaining`."""
    from captum_clrp.cli.explaining import explain

    return explain(options)
