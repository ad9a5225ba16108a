"""Networks of one's own, by the place of the code that makes them."""

from __future__ import annotations

import importlib
import operator
from collections.abc import Callable
from typing import Any

from torch import nn

from captum_clrp.classifiers import timm
from captum_clrp.classifiers.classifier import Classifier, Found
from captum_clrp.classifiers.preprocessing import Preprocessing
from captum_clrp.classifiers.weights import (
    DEFAULT,
    RANDOM,
    fitted,
    local_file,
    misfit,
    no_such_weights,
    read_state_dict,
    seeded,
)
from captum_clrp.errors import ClassifierError, nearest, reason_of


def load(name: str, weights: str | None) -> Found:
    """A network by ``PACKAGE.MODULE:NAME``, on the CPU; see :func:`captum_clrp.classifiers.load_classifier`."""
    made = _named(name)
    if weights == RANDOM:
        if not callable(made) or isinstance(made, nn.Module):
            raise ClassifierError(f"{name} is a network already; random weights need what makes one", "weights")
        made = _called(seeded, made, name)
    elif callable(made) and not isinstance(made, nn.Module):
        made = _called(lambda build: build(), made, name)
    if isinstance(made, Classifier):
        found = Found(
            made.name, made.model, made.weights, Preprocessing(made.prepare, made.mean, made.std), made.class_names
        )
    elif isinstance(made, nn.Module):
        found = Found(name, made, f"as {name} has them", timm.preprocessing_of(made), None)
    else:
        raise ClassifierError(
            f"{name} is a {type(made).__name__}; name a network (torch.nn.Module), a Classifier, or what returns one",
            "name",
        )
    if weights == RANDOM:
        return found._replace(weights=RANDOM)
    if weights in (None, DEFAULT):
        return found
    path = local_file(weights)
    if path is None:
        raise no_such_weights(name, weights, ())
    state, own = read_state_dict(path), found.model.state_dict()
    try:
        found.model.load_state_dict(fitted(state, own, path))
    except RuntimeError as error:
        raise misfit(path, name, state, own, error) from error
    return found._replace(weights=str(path))


def _named(name: str) -> Any:
    place, _, inside = name.partition(":")
    try:
        module = importlib.import_module(place)
    except Exception as error:  # whatever the module does when it is imported
        raise ClassifierError(
            f"{place or name} cannot be imported ({reason_of(error)}); name what makes the network as PACKAGE.MODULE:NAME, "
            "of a package that is installed or lies in the current folder",
            "name",
        ) from error
    try:
        return operator.attrgetter(inside)(module)
    except AttributeError as error:
        known = nearest(inside, [one for one, value in vars(module).items() if callable(value) and one[:1] != "_"])
        hint = f"; it has {', '.join(known)}" if known else ""
        raise ClassifierError(
            f"{place} ({module.__file__}) has no {inside or 'name behind the colon'}{hint}", "name"
        ) from error


def _called(how: Callable[[Callable[[], Any]], Any], build: Callable[[], Any], name: str) -> Any:
    try:
        return how(build)
    except Exception as error:  # whatever it does
        raise ClassifierError(
            f"{name} failed when it was called without arguments ({reason_of(error)}); name a function that needs none",
            "name",
        ) from error
