"""A picture leads to its file, so that on a phone its letters can be read."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx


def link(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Put a reference to the file around each picture that leads nowhere yet."""
    if app.builder.format != "html":
        return
    for image in list(doctree.findall(nodes.image)):
        known = app.env.images.get(image["uri"])
        if known is None or isinstance(image.parent, nodes.reference):
            continue
        address = f"{'../' * page.count('/')}{app.builder.imagedir}/{known[1]}"
        reference = nodes.reference("", "", refuri=address, internal=True, classes=["picture"])
        image.replace_self(reference)
        reference += image


def setup(app: Sphinx) -> dict[str, Any]:
    """Look at the pictures when their files are known."""
    app.connect("doctree-resolved", link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
