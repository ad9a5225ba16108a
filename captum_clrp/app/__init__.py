"""A page to explore explanations in the browser: ``captum-clrp serve``, and :func:`explore` in a notebook.

``app/explorer.py`` knows what is shown, ``app/page.py`` puts it before people, with Gradio (extra ``app``), which is
imported when a page is made and not before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from captum_clrp.errors import InvalidInputError

if TYPE_CHECKING:
    from torch import nn

    from captum_clrp.classifiers import Classifier

__all__ = ["explore"]


def explore(model_or_classifier: nn.Module | Classifier | str) -> Any:
    """Show the page to explore below a cell of a notebook, or serve it to this computer from a script.

    Args:
        model_or_classifier: A :class:`captum_clrp.classifiers.Classifier`, the name of a network of torchvision or timm, or
            a network that timm made, whose preprocessing is therefore known.

    Returns:
        The page, a ``gradio.Blocks`` that runs; its ``close()`` ends it.

    Raises:
        InvalidInputError: for a network whose preprocessing is not known.
        ImportError: without the extra ``app``.
    """
    from captum_clrp.app.explorer import Explorer
    from captum_clrp.app.page import start

    return start(Explorer(*_classifier(model_or_classifier)), host="127.0.0.1", port=None)


def _classifier(given: nn.Module | Classifier | str) -> tuple[Classifier, str | None]:
    """The classifier, and the expression that makes it where that is not its name."""
    from captum_clrp.classifiers import Classifier, load_classifier
    from captum_clrp.classifiers.timm import preprocessing_of

    if isinstance(given, Classifier):
        return given, "classifier  # the one that the page explains"
    if isinstance(given, str):
        return load_classifier(given), f"load_classifier({given!r})"
    how = preprocessing_of(given)
    if how is None:
        raise InvalidInputError(
            f"how a picture becomes the input of this {type(given).__name__} is not known; pass "
            "captum_clrp.classifiers.Classifier(name, model, prepare, mean, std, class_names)"
        )
    made = Classifier(type(given).__name__, given, how.prepare, how.mean, how.std, weights="as the network has them")
    return made, "classifier  # the one that the page explains"
