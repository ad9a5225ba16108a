"""Sphinx configuration. From the repository: ``sphinx-build -W docs docs/_build/html``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
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

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "mathml",
    "generated",
    "tables",
    "pictures",
]
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
html_title = f"captum_clrp {release}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_domain_indices = False  # the modules are in the index of names
html_theme_options = {
    # The theme's own fonts only: pages must be complete without network.
    "light_css_variables": {"color-brand-primary": "#8b0a1a", "color-brand-content": "#a3202f"},
    "dark_css_variables": {"color-brand-primary": "#ff8a80", "color-brand-content": "#ff8a80"},
    "navigation_with_keys": True,
}
# The theme's own style of code for the light ground, which has enough contrast.
pygments_dark_style = "github-dark"
smartquotes_action = "q"  # quotation marks only: two hyphens begin an option

# References that lead nowhere are warnings. Types of other packages lead to their documentation where `ELSEWHERE` knows
# the place (an inventory would have to be fetched), and nowhere otherwise.
nitpicky = True
_PYTHON, _TORCH = "https://docs.python.org/3/library", "https://docs.pytorch.org/docs/stable"
ELSEWHERE = {
    "collections.abc.Callable": f"{_PYTHON}/collections.abc.html#collections.abc.Callable",
    "collections.abc.Iterable": f"{_PYTHON}/collections.abc.html#collections.abc.Iterable",
    "collections.abc.Iterator": f"{_PYTHON}/collections.abc.html#collections.abc.Iterator",
    "collections.abc.Mapping": f"{_PYTHON}/collections.abc.html#collections.abc.Mapping",
    "collections.abc.Sequence": f"{_PYTHON}/collections.abc.html#collections.abc.Sequence",
    "pathlib.Path": f"{_PYTHON}/pathlib.html#pathlib.Path",
    "torch.Tensor": f"{_TORCH}/tensors.html#torch.Tensor",
    "torch.nn.Module": f"{_TORCH}/generated/torch.nn.Module.html#torch.nn.Module",
    "torch.nn.modules.module.Module": f"{_TORCH}/generated/torch.nn.Module.html#torch.nn.Module",
    "torch.Generator": f"{_TORCH}/generated/torch.Generator.html#torch.Generator",
    "torch._C.Generator": f"{_TORCH}/generated/torch.Generator.html#torch.Generator",
}
nitpick_ignore_regex = [
    ("py:.*", r"(torch|torchvision|torchmetrics|captum|numpy|PIL|matplotlib|typing|types|collections|argparse)(\..*)?"),
    # Names of types in signatures, which the text beside them describes, and bases that are no part of the interface.
    (
        "py:.*",
        r"(BoundType|Outside|AveragePooling|Average|Fill|Measure|Order|Precision|TargetType|TensorOrTupleOfTensorsGeneric|LayerRelevance)",
    ),
    (
        "py:.*",
        r"captum_clrp\.(explanation|engine)\..*|captum_clrp\.rules\.Prepared|captum_clrp\.evaluation\.(registry\.Registry|listed\.Listed)|abc\.ABC|Path",
    ),
    ("py:class", r"[a-z_]+"),  # names of fields that share a description
    ("py:.*", r"(Any|Callable|Iterator|Mapping|NDArray|Sequence|Tensor|optional|np\..*|nn\..*)"),
]


def _skip_fields(app: Sphinx, what: str, name: str, member: Any, skip: bool, options: Any) -> bool | None:
    """Leave out fields that say nothing (a number, or the class that is their default); their class describes them."""
    number = (getattr(member, "__doc__", None) or "").startswith("Alias for field number")
    default = what == "class" and isinstance(member, type) and member.__name__ != name
    return True if number or default else None


def _elsewhere(app: Sphinx, env: Any, node: Any, content: Any) -> Any:
    """Lead a type of another package to its documentation."""
    address = ELSEWHERE.get(node.get("reftarget", ""))
    return nodes.reference("", "", content, refuri=address, internal=False) if address else None


def setup(app: Sphinx) -> None:
    """Hooks of this documentation."""
    app.connect("missing-reference", _elsewhere)
    app.connect("autodoc-skip-member", _skip_fields)
