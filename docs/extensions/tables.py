"""Tables that can be read on a phone: those of words are stacked there, row below row; those of numbers scroll.

What a block prints in columns scrolls there, too. A stacked cell says which column it is from, in a label that wide
screens do not show (``static/site.css``).
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

MOST = 5
"""Tables of more columns scroll."""

_GAP = re.compile(r"^.*\S {2,}\S.*$", re.MULTILINE)


def prepare(app: Sphinx, doctree: nodes.document, _page: str) -> None:
    """Mark the tables of words, and label their cells."""
    if app.builder.format != "html":
        return
    for block in doctree.findall(nodes.literal_block):
        if len(_GAP.findall(block.astext())) > 1:
            block["classes"].append("columns")
    for table in doctree.findall(nodes.table):
        for code in table.findall(nodes.literal):
            if " " in code.astext():
                code["classes"].append("phrase")  # may go on in the next line; names stay whole
        head, body = (next(iter(table.findall(part)), None) for part in (nodes.thead, nodes.tbody))
        if head is not None and body is not None and _is_of_words(table, body):
            table["classes"].append("stacks")
            _label(head.children[-1], body)


def _is_of_words(table: nodes.table, body: nodes.tbody) -> bool:
    aligned = any("text-right" in entry["classes"] for entry in body.findall(nodes.entry))
    return not aligned and len(list(table.findall(nodes.colspec))) <= MOST


def _label(head: Any, body: nodes.tbody) -> None:
    names = [entry.astext() for entry in head.children]
    for row in body.children:
        for name, entry in list(zip(names, row.children, strict=False))[1:]:
            paragraph = next(iter(entry.findall(nodes.paragraph)), None)
            if paragraph is None or not entry.astext():
                entry["classes"].append("nothing")
            elif name:
                paragraph.insert(0, nodes.inline("", f"{name}: ", classes=["label"]))


def setup(app: Sphinx) -> dict[str, Any]:
    """Look at the tables when all references are resolved."""
    app.connect("doctree-resolved", prepare)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
