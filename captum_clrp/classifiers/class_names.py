"""What the outputs of classifiers are called."""

from __future__ import annotations

import functools
from importlib import resources
from pathlib import Path

from torchvision.models import VGG16_Weights

from captum_clrp.errors import ClassifierError


def imagenet_class_names() -> tuple[str, ...]:
    """The names of the 1000 ILSVRC2012 classes in the order of the networks' outputs."""
    return tuple(VGG16_Weights.DEFAULT.meta["categories"])


@functools.cache
def imagenet_wnids() -> tuple[str, ...]:
    """The WordNet numbers of the 1000 ILSVRC2012 classes in the order of the networks' outputs."""
    return tuple((resources.files("captum_clrp") / "data" / "ilsvrc2012_wnids.txt").read_text().split())


def read_class_names(path: str | Path) -> tuple[str, ...]:
    """The names in a text file, one in each line, in the order of the network's outputs.

    Args:
        path: The file, in UTF-8. Empty lines at its end do not count.

    Raises:
        ClassifierError: if it cannot be read, or has an empty line between names.
    """
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8-sig").rstrip().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ClassifierError(
            f"the class names {path} cannot be read ({getattr(error, 'strerror', None) or error}); give a text file with one "
            "name in each line",
            "class_names",
        ) from error
    names = tuple(line.strip() for line in lines)
    if not names or not all(names):
        where = names.index("") + 1 if names else 1
        raise ClassifierError(
            f"line {where} of the class names {path} is empty; give one name in each line", "class_names"
        )
    return names
