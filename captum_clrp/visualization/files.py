"""A figure as a file, with what it shows in the file's metadata."""

from __future__ import annotations

import io

import matplotlib
from matplotlib.figure import Figure
from PIL import ExifTags, Image

from captum_clrp.errors import InvalidInputError

SOFTWARE = "captum-clrp"
"""The program that metadata of files name."""

FORMATS = ("png", "jpg", "jpeg", "webp", "pdf", "svg")
"""Formats by the ending of a file's name."""


def encoded(figure: Figure, kind: str = "png", *, title: str = "", description: str = "", dpi: float = 150) -> bytes:
    """A figure as the content of a file.

    Equal figures give equal bytes: no date, no random number is in them.

    Args:
        figure: From :func:`captum_clrp.visualization.draw_maps` or any other.
        kind: ``"png"``, ``"jpg"``, ``"jpeg"``, ``"webp"``, ``"pdf"`` or ``"svg"``, with or without a dot.
        title: What the file's metadata calls it.
        description: What else they say: classes, scores, settings. PNG has it as text, PDF as its subject, SVG as Dublin Core,
            JPEG and WebP as the EXIF description.
        dpi: Dots per inch; in PDF and SVG, of the maps.

    Returns:
        Bytes to be written.

    Raises:
        InvalidInputError: for another format.
    """
    ending = kind.lower().lstrip(".")
    if ending not in FORMATS:
        raise InvalidInputError(f"pictures in the format {kind!r} cannot be made; choose from {', '.join(FORMATS)}")
    title, description = (text.encode("utf-8", "replace").decode() for text in (title, description))
    file = io.BytesIO()
    if ending in ("jpg", "jpeg", "webp"):
        exif = Image.Exif()
        exif[ExifTags.Base.Software] = SOFTWARE
        exif[ExifTags.Base.DocumentName] = title
        exif[ExifTags.Base.ImageDescription] = "\n".join(part for part in (title, description) if part)
        options = {"exif": exif.tobytes(), "quality": 92} | ({"method": 6} if ending == "webp" else {"subsampling": 0})
        figure.savefig(file, format=ending, dpi=dpi, pil_kwargs=options)
    else:
        metadata = {
            "png": {"Software": SOFTWARE, "Title": title, "Description": description},
            "pdf": {"Creator": SOFTWARE, "Title": title, "Subject": description, "CreationDate": None},
            "svg": {"Creator": SOFTWARE, "Title": title, "Description": description, "Date": None},
        }[ending]
        with matplotlib.rc_context({"svg.hashsalt": SOFTWARE, "pdf.fonttype": 42}):
            figure.savefig(file, format=ending, dpi=dpi, metadata=metadata)
    return file.getvalue()
