"""Sphinx configuration. From the repository: ``sphinx-build -W docs docs/_build/html``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "extensions"))
sys.path.insert(0, str(HERE.parent))  # the package and benchmarks/ of this checkout

_source = (HERE.parent / "captum_clrp" / "__init__.py").read_text(encoding="utf-8")

project = "captum_clrp"
author = "The captum_clrp authors"
project_copyright = "The captum_clrp authors"
release = re.search(r'__version__ = "(.+?)"', _source)[1]  # type: ignore[index]
version = release

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "mathml", "generated"]
exclude_patterns = ["_build", "results", "jupyter_execute"]

# Pages are MyST Markdown; every heading down to the third level can be linked to.
myst_enable_extensions = ["amsmath", "attrs_block", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

# The tutorials are shown with the outputs that are kept in them; tests run them.
nb_execution_mode = "off"
nb_merge_streams = True

# Formulas become MathML (extensions/mathml.py): no script, no font, no network.
html_math_renderer = "mathml"
math_numfig = False

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = "captum_clrp"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    # The theme's own fonts only: pages must be complete without network.
    "light_css_variables": {"color-brand-primary": "#8b0a1a", "color-brand-content": "#a3202f"},
    "dark_css_variables": {"color-brand-primary": "#ff8a80", "color-brand-content": "#ff8a80"},
    "navigation_with_keys": True,
}
pygments_style = "friendly"


def _skip_field_aliases(app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Fields of named tuples say only their number; the class describes them."""
    return True if (getattr(member, "__doc__", None) or "").startswith("Alias for field number") else None


def setup(app: Sphinx) -> None:
    """Hooks of this documentation."""
    app.connect("autodoc-skip-member", _skip_field_aliases)
