"""Bring docstrings and comments down to a line length; code is Black's job.

Used by ``tools/upstream.py``: this project lets prose run to 120 columns, Captum stops at 88.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize

__all__ = ["excuse", "reflow"]

_ENTRY = re.compile(r"^\**[\w.]+(, \**[\w.]+)*( \([^)]*\))?: ")  # "name, name (type): text" below "Args:"
_SECTION = re.compile(r"^(Args|Attributes|Raises|Returns):$")
_ITEM = re.compile(r"^([-*]|\d+\.) ")
_DIRECTIVE = re.compile(r"^\.\. ")
_DOCTEST = re.compile(r"^(>>>|\.\.\.) ")
_RULER = re.compile(r"^(\s*# -- .*? )-{3,}$")


def reflow(source: str, width: int = 88) -> str:
    """``source`` with every docstring and comment line broken at ``width``; paragraphs close up behind a break."""
    lines = source.splitlines()
    for first, last in reversed(_docstrings(source)):  # from the bottom, so that line numbers stay true
        lines[first : last + 1] = _broken(lines[first : last + 1], width)
    lines = _broken_comments(lines, width)
    return "\n".join(lines) + "\n"


def excuse(source: str, width: int = 88) -> str:
    """``source`` with flake8's mark where it would complain for a good reason.

    That is on lines longer than ``width`` that cannot be broken (behind the closing quotes of a string over several
    lines), and on imports below ``pytest.importorskip``.
    """
    lines = source.splitlines()
    ends = {
        line: token.end[0]
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.STRING
        for line in range(token.start[0], token.end[0] + 1)
    }
    marks = {ends.get(n, n): "E501" for n, line in enumerate(lines, start=1) if len(line) > width}
    skips = [n for n, line in enumerate(lines, start=1) if line.startswith("pytest.importorskip(")]
    for node in ast.parse(source).body:
        if skips and isinstance(node, ast.Import | ast.ImportFrom) and node.lineno > skips[0]:
            marks[node.lineno] = "E402"
    for number, code in marks.items():
        if "# noqa" not in lines[number - 1]:
            lines[number - 1] += f"  # noqa: {code}"
    return "\n".join(lines) + "\n"


def _docstrings(source: str) -> list[tuple[int, int]]:
    """First and last line (from 0) of each string that stands by itself, in order."""
    found = [
        (node.lineno - 1, (node.end_lineno or node.lineno) - 1)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    ]
    return sorted(found)


def _broken(lines: list[str], width: int) -> list[str]:
    """The lines of one docstring, none longer than ``width`` where there is a space to break at."""
    rest, done = list(lines), []
    while rest:
        line = rest.pop(0)
        if len(line) <= width:
            done.append(line)
            continue
        indent = line[: len(line) - len(line.lstrip())]
        if _DOCTEST.match(line.strip()):
            done += _broken_doctest(line, indent, width)
            continue
        cut = line.rfind(" ", len(indent) + 1, width + 1)
        if cut <= len(indent):
            done.append(line)
            continue
        done.append(line[:cut].rstrip())
        following = _continuation_indent(line, indent, rest, in_section=_in_section(done, indent))
        overflow = line[cut:].strip()
        if rest and _continues(rest[0], following, in_section=_in_section(done, following)):
            rest[0] = f"{following}{overflow} {rest[0].strip()}"
        else:
            rest.insert(0, following + overflow)
    return done


def _in_section(done: list[str], indent: str) -> bool:
    """Whether a line indented so would stand directly below ``Args:`` or the like."""
    for line in reversed(done):
        if line.strip() and len(line) - len(line.lstrip()) < len(indent):
            return bool(_SECTION.match(line.strip()))
    return False


def _continuation_indent(line: str, indent: str, rest: list[str], *, in_section: bool) -> str:
    text = line.strip()
    if _ITEM.match(text):
        return indent + " " * len(_ITEM.match(text).group())  # type: ignore[union-attr]
    if in_section and _ENTRY.match(text):
        after = rest[0] if rest else ""
        deeper = after[: len(after) - len(after.lstrip())]
        return deeper if after.strip() and len(deeper) > len(indent) else indent + "    "
    return indent + "   " if _DIRECTIVE.match(text) else indent


def _continues(line: str, indent: str, *, in_section: bool) -> bool:
    text = line.strip()
    starts = (_ITEM, _DIRECTIVE, _DOCTEST, *((_ENTRY,) if in_section else ()))
    starts_anew = any(pattern.match(text) for pattern in starts) or text.startswith('"""')
    return bool(text) and not starts_anew and line.startswith(indent) and not line[len(indent)].isspace()


def _broken_doctest(line: str, indent: str, width: int) -> list[str]:
    """The comment behind a doctest line goes to a line of its own above it."""
    code, _, comment = line.rpartition("  # ")
    if not code:
        return [line]
    prompt = _DOCTEST.match(code.strip()).group(1)  # type: ignore[union-attr]
    return [f"{indent}{prompt} # {comment}", code.rstrip()]


def _broken_comments(lines: list[str], width: int) -> list[str]:
    comments = {
        token.start[0] - 1: token.start[1]
        for token in tokenize.generate_tokens(io.StringIO("\n".join(lines) + "\n").readline)
        if token.type == tokenize.COMMENT
    }
    done: list[str] = []
    carried = ""  # what ran over from the comment line above
    for number, original in enumerate(lines):
        column = comments.get(number)
        own_line = column is not None and not original[:column].strip()
        line = original
        if carried:
            indent = done[-1][: len(done[-1]) - len(done[-1].lstrip())]
            text = original.strip().removeprefix("#").strip()
            starts_anew = not text or _RULER.match(original) or _ITEM.match(text)
            if own_line and column == len(indent) and not starts_anew:
                line = f"{indent}# {carried} {original[len(indent) :].lstrip('# ')}"
            else:
                done.append(f"{indent}# {carried}")
            carried = ""
        if column is None or len(line) <= width:
            done.append(line)
            continue
        ruler = _RULER.match(line)
        if ruler:
            done.append(ruler.group(1) + "-" * max(2, width - len(ruler.group(1))))
        elif own_line:
            cut = line.rfind(" ", column + 3, width + 1)
            if cut < 0:
                done.append(line)
            else:
                done.append(line[:cut].rstrip())
                carried = line[cut:].strip()
        elif re.match(r"# (type: ignore|noqa)", line[column:]):
            done.append(line if "noqa" in line else line + "  # noqa: E501")
        else:  # behind code: above it
            indent = line[: len(line) - len(line.lstrip())]
            above = _broken_comments([indent + line[column:]], width)
            done += [*above, line[:column].rstrip()]
    if carried:
        indent = done[-1][: len(done[-1]) - len(done[-1].lstrip())]
        done += _broken_comments([f"{indent}# {carried}"], width)
    return done
