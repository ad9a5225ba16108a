"""Tables of plain text."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def text_table(header: Sequence[str], rows: Iterable[Sequence[object]], *, ruled: bool = True) -> str:
    """Columns aligned left, two spaces apart.

    Args:
        header: The first line.
        rows: The lines below it, as many cells each.
        ruled: Whether a line of dashes stands below the header.

    Returns:
        The lines, without spaces at their ends.
    """
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if ruled:
        cells.insert(1, ["-" * width for width in widths])
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)
