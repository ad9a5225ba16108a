"""Objects in XML files, in the format that PASCAL VOC and ILSVRC2012 share."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

from captum_clrp.errors import InvalidInputError
from captum_clrp.geometry import Box


def objects(annotation: Path, first: int) -> tuple[list[tuple[str, Box, bool]], float]:
    """Class, box and "difficult" flag of each object of an XML file; and the photograph's width times its height."""
    try:
        root = ET.parse(annotation).getroot()
        found = []
        for item in root.iter("object"):
            left, top, right, bottom = (
                float(item.findtext(f"bndbox/{c}", "")) for c in ("xmin", "ymin", "xmax", "ymax")
            )
            box = Box.of_pixels(left, top, right, bottom, first)
            difficult = item.findtext("difficult", "0").strip() == "1"
            found.append((item.findtext("name", "").strip(), box, difficult))
        return found, float(root.findtext("size/width", "0")) * float(root.findtext("size/height", "0"))
    except (OSError, ET.ParseError, ValueError) as error:
        raise InvalidInputError(f"the annotation {annotation} cannot be read ({error}); get it again") from error
