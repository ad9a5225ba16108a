"""Code blocks of the documentation: found, run page by page, and their printed output compared or refreshed.

A page's ``python`` blocks run from top to bottom in one namespace. A ``text`` block right below one is what it prints.
A block below ``<!-- not run: reason -->`` is left alone. To write the present outputs into pages:

    python tests/helpers/pages.py docs/explanation/relevance.md ...
"""

import contextlib
import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


class Block(NamedTuple):
    """One fenced block: its language, content, first line (from 0) and why it is not run, if it says so."""

    language: str
    content: str
    line: int
    not_run: str | None


def pages() -> list[Path]:
    """All hand-written pages of the documentation, the README included."""
    made = {"_build", "results"}
    found = [p for p in DOCS.rglob("*.md") if not made & set(p.relative_to(DOCS).parts)]
    found = [p for p in found if p.parent != DOCS / "reference" / "evaluation"]  # written from the code by a build
    return [ROOT / "README.md", *sorted(found)]


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, directives (``{name}``) left out."""
    pattern = re.compile(
        r"(?:^<!-- not run: (?P<why>[^\n]+) -->\n+)?^```(?P<language>[a-z]*)\n(?P<content>.*?)^```$", re.M | re.S
    )
    return [
        Block(m["language"], m["content"], text[: m.start("content")].count("\n"), m["why"])
        for m in pattern.finditer(text)
    ]


def runs(text: str) -> Iterator[tuple[Block, Block | None]]:
    """Each block that runs, with the block that shows its output, if there is one."""
    found = blocks(text)
    lines = text.splitlines()
    for i, block in enumerate(found):
        if block.language != "python" or block.not_run:
            continue
        after = found[i + 1] if i + 1 < len(found) else None
        end = block.line + block.content.count("\n") + 1
        if after is not None and after.language == "text" and not "".join(lines[end : after.line - 1]).strip():
            yield block, after
        else:
            yield block, None


def printed(block: Block, page: Path, names: dict[str, Any]) -> str:
    """Run a block; tracebacks name the page and its line."""
    code = compile("\n" * block.line + block.content, str(page), "exec")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, names)
    return out.getvalue()


def refreshed(page: Path) -> str:
    """The page's text with the outputs that its blocks print now."""
    text = page.read_text(encoding="utf-8")
    names: dict[str, Any] = {}
    replaced: list[tuple[Block, str]] = []
    for block, shown in runs(text):
        output = printed(block, page, names)
        if shown is not None:
            replaced.append((shown, output))
    lines = text.splitlines(keepends=True)
    for shown, output in reversed(replaced):
        lines[shown.line : shown.line + shown.content.count("\n")] = [_without_trailing_spaces(output)]
    return "".join(lines)


def _without_trailing_spaces(output: str) -> str:
    return "".join(line.rstrip() + "\n" for line in output.splitlines())


if __name__ == "__main__":
    import torch

    given = [Path(a).resolve() for a in sys.argv[1:]]
    os.chdir(tempfile.mkdtemp())
    for page in given:
        torch.manual_seed(0)
        page.write_text(refreshed(page), encoding="utf-8")
