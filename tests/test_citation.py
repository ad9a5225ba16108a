"""README and documentation cite what CITATION.cff says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "CITATION.cff"

pytestmark = pytest.mark.skipif(not FILE.exists(), reason="tests run apart from the checkout")


def entries(page: str) -> dict[str, dict[str, str]]:
    """BibTeX entries of a page by kind: their fields without braces, dashes as one."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = {}
    for kind, body in re.findall(r"^@(\w+)\{\w+,\n(.*?)^\}", text, re.MULTILINE | re.DOTALL):
        fields = re.findall(r"^\s*(\w+)\s*=\s*\{(.*)\},?$", body, re.MULTILINE)
        found[kind] = {name: re.sub(r"[{}\\]", "", value) for name, value in fields}
    return found


def wanted() -> dict[str, dict[str, str]]:
    """The fields that CITATION.cff determines."""
    citation: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    paper = citation["preferred-citation"]
    return {
        "inproceedings": {
            "title": paper["title"],
            "author": " and ".join(f"{a['family-names']}, {a['given-names']}" for a in paper["authors"]),
            "booktitle": paper["collection-title"],
            "volume": paper["volume"],
            "pages": f"{paper['start']}--{paper['end']}",
            "publisher": paper["publisher"]["name"],
            "year": str(paper["year"]),
            "doi": paper["doi"],
        },
        "software": {
            "title": citation["title"],
            "author": " and ".join(author["name"] for author in citation["authors"]),
        },
    }


@pytest.mark.parametrize("page", ["README.md", "docs/citing.md"])
def test_pages_cite_what_the_file_says(page: str) -> None:
    shown = entries(page)
    for kind, fields in wanted().items():
        assert {name: shown[kind].get(name) for name in fields} == fields
    assert entries("README.md") == entries("docs/citing.md")
