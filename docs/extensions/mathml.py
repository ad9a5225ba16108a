r"""Formulas as MathML, which browsers draw themselves: nothing is loaded, and screen readers can read it.

The converter comes with docutils. A formula that it cannot convert is a warning, which ends a build with ``-W``.
Several lines need ``\begin{aligned}``.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

_log = logging.getLogger(__name__)


def _convert(formula: nodes.math | nodes.math_block, *, block: bool) -> str:
    source = re.sub(r"\\(big|Big|bigg|Bigg)(?![a-zA-Z])", r"\\\1l", formula.astext())  # \big| is not known, \bigl| is
    try:
        return tex2mathml(source, as_block=block)
    except MathError as error:
        _log.warning("formula %r cannot be converted: %s", source, error, location=formula)
        return ""


def visit_inline(translator: Any, node: nodes.math) -> None:
    """Write one formula within a line of text."""
    translator.body.append(_convert(node, block=False))
    raise nodes.SkipNode


def visit_block(translator: Any, node: nodes.math_block) -> None:
    """Write one displayed formula; wide ones scroll by themselves on a narrow screen."""
    translator.body.append(f'<div class="formula">{_convert(node, block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer under the name that ``html_math_renderer`` chooses."""
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
