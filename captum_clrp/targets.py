"""What is explained: from what a user names (a class, a region, a neuron) to initial relevance.

:class:`OfTarget`, :class:`OfNeurons` and :class:`Given` are the three ways to name it. Each finds the tensor that is
explained in what the model (or the layer) returned, and says how much relevance each of its values starts with.
"""

from __future__ import annotations

import dataclasses
import itertools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from captum_clrp.engine._captum import TargetType, select_targets
from captum_clrp.engine.nested import attributes_of, flatten
from captum_clrp.engine.numerics import all_finite, at_least_single
from captum_clrp.errors import InvalidTargetError, ModelStateError

InitialRelevance = Tensor | Callable[[Any], Any] | Sequence[Any] | Mapping[Any, Any] | None
"""A tensor shaped as the model's output, or a function from the output to such a tensor; where the model returns several
tensors, the same structure with ``None`` for all but one."""

NeuronSelector = int | tuple[int | slice, ...] | Callable[[Tensor], Tensor]
"""A neuron of a layer by its index, a group of neurons by slices, or a function from the layer's output to one value for
each example."""


class Start(Protocol):
    """Names what is explained."""

    def start(self, returned: Any, *, magnitude: bool) -> tuple[Tensor, Tensor]:
        """The tensor that is explained and its initial relevance, of the same shape.

        Args:
            returned: What the model (or the layer at which its pass ended) returned.
            magnitude: Whether scores count by their magnitude, as for a contrast.
        """
        ...


@dataclasses.dataclass(frozen=True)
class OfTarget:
    """The score of a target, in any of Captum's forms."""

    target: Any = None

    def start(self, returned: Any, *, magnitude: bool) -> tuple[Tensor, Tensor]:
        output, target = choose_output(returned, plain_target(self.target))
        scores = target_scores(_readable(output), target)
        return output, scores.abs() if magnitude else scores


@dataclasses.dataclass(frozen=True)
class OfNeurons:
    """Activations of chosen neurons of a layer."""

    selector: NeuronSelector

    def start(self, returned: Any, *, magnitude: bool) -> tuple[Tensor, Tensor]:
        if not isinstance(returned, Tensor):
            raise InvalidTargetError(
                f"the layer takes or returns {len(list(flatten(returned)))} values where one tensor is needed; choose "
                "another layer"
            )
        activations = _readable(returned)
        scores = _selected(activations, self.selector) * activations
        return returned, scores.abs() if magnitude else scores


@dataclasses.dataclass(frozen=True)
class Given:
    """Initial relevance that the user gives: it is taken as it is."""

    relevance: InitialRelevance

    def start(self, returned: Any, *, magnitude: bool) -> tuple[Tensor, Tensor]:
        if isinstance(returned, Tensor):
            plain = _readable(returned)
            return returned, _fitting(plain, self.relevance(plain) if callable(self.relevance) else self.relevance)
        output, given = _relevance_of_one(returned, self.relevance)
        plain = _readable(output)
        return output, _fitting(plain, given(plain) if callable(given) else given)


def _readable(output: Tensor) -> Tensor:
    """The output without its graph, in at least float32.

    Raises:
        ModelStateError: if it is not finite, or a single number for all examples.
    """
    if output.dim() == 0:
        raise ModelStateError(
            "the model's output is a single number without dimensions, where dimension 0 counts examples; return one value "
            "for each example, e.g. output.sum(1) instead of output.sum()"
        )
    if not all_finite(output):
        raise ModelStateError(
            f"the model's output of shape {tuple(output.shape)} holds NaN or infinite values for finite inputs; "
            "check the weights, and the range of half-precision activations"
        )
    return output.detach().to(at_least_single(output))


# -- one of several outputs ---------------------------------------------------------------------------------------


def choose_output(returned: Any, target: Any) -> tuple[Tensor, Any]:
    """One tensor of what the model returned, with the target within it.

    A structure that holds a single tensor needs no choice. Otherwise a tuple target begins with the way to the tensor:
    ``("out", class, row, column)``, ``(0, class)``, ``("heads", "age", class)``.

    Raises:
        InvalidTargetError: if the choice is missing or ambiguous.
    """
    if isinstance(returned, Tensor):
        return returned, target
    tensors = list(_tensors_of(returned))
    if not tensors:
        raise InvalidTargetError(f"the model returned a {type(returned).__name__} without floating-point tensors")
    first, *rest = target if isinstance(target, tuple) and target else (None,)
    part = _part(returned, first)
    if len(tensors) == 1 and not (part is not None and isinstance(first, str)):
        return tensors[0][1], target
    if part is None:
        path, _ = tensors[0]
        example = ", ".join(map(repr, path))
        raise InvalidTargetError(
            f"the model returned tensors {_names(tensors)} and target {target!r} does not say which one to explain; "
            f"give a tuple that starts with one of them, e.g. target=({example}, class)"
        )
    if isinstance(part, Tensor) or len(list(_tensors_of(part))) == 1:
        return choose_output(part, rest[0] if len(rest) == 1 else tuple(rest) or None)
    return choose_output(part, tuple(rest))


def _relevance_of_one(returned: Any, given: InitialRelevance) -> tuple[Tensor, Any]:
    """The tensor of a structure for which initial relevance is given, and that relevance."""
    tensors = list(_tensors_of(returned))
    if not tensors:
        raise InvalidTargetError(f"the model returned a {type(returned).__name__} without floating-point tensors")
    chosen = given(returned) if callable(given) else given
    if isinstance(chosen, Tensor) and len(tensors) == 1:
        return tensors[0][1], chosen
    found = [] if isinstance(chosen, Tensor) else list(_tensors_of(chosen))
    if len(found) == 1:
        path, relevance = found[0]
        output = returned
        for key in path:
            output = _part(output, key)
        if isinstance(output, Tensor):
            return output, relevance
    raise InvalidTargetError(
        f"the model returned tensors {_names(tensors)}; initial_relevance must hold relevance for exactly one of them "
        "(the same structure with None, or no entry, for the others)"
    )


def _names(tensors: Sequence[tuple[tuple[Any, ...], Tensor]]) -> list[Any]:
    return [path[0] if len(path) == 1 else path for path, _ in tensors]


def _parts(value: Any) -> Iterator[tuple[Any, Any]]:
    """Key and value of each part of a structure: a dict, list, tuple, dataclass or plain object."""
    if isinstance(value, Tensor):
        return
    if isinstance(value, dict):
        yield from value.items()
    elif isinstance(value, tuple | list):
        yield from enumerate(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value))
    else:
        yield from attributes_of(value).items()


def _part(value: Any, key: Any) -> Any:
    """A part that holds tensors, by its key (of a named tuple also by its name); ``None`` if there is none."""
    if isinstance(key, str) and key in getattr(value, "_fields", ()):
        key = value._fields.index(key)
    for name, part in _parts(value):
        if type(name) is type(key) and name == key and any(True for _ in _tensors_of(part)):
            return part
    return None


def _tensors_of(value: Any) -> Iterator[tuple[tuple[Any, ...], Tensor]]:
    """Floating-point tensors of a structure, each with the keys that lead to it; one lookup deep for plain objects."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield (), value
        return
    for key, part in _parts(value):
        if isinstance(part, Tensor | dict | list | tuple) or dataclasses.is_dataclass(part):
            for path, tensor in _tensors_of(part):
                yield (key, *path), tensor


# -- initial relevance --------------------------------------------------------------------------------------------


def _fitting(output: Tensor, given: Any) -> Tensor:
    if not isinstance(given, Tensor) or given.shape != output.shape:
        what = f"shape {tuple(given.shape)}" if isinstance(given, Tensor) else f"type {type(given).__name__}"
        raise InvalidTargetError(
            f"initial_relevance of {what} does not fit the output of shape {tuple(output.shape)}; "
            "give a tensor of exactly that shape, or a function from the output to it"
        )
    if not all_finite(given):
        raise InvalidTargetError("initial_relevance holds NaN or infinite values; give finite ones")
    return given.detach().to(output)


def class_scores(classes: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """``initial_relevance`` for several classes at once: the multi-class explanation of the paper (section 3.1, fig. 1).

    Args:
        classes: Indices into dimension 1 of the output.
    """

    def initial_relevance(output: Tensor) -> Tensor:
        chosen = torch.zeros_like(output)
        chosen[:, list(classes)] = 1
        return chosen * output

    return initial_relevance


# -- targets ------------------------------------------------------------------------------------------------------


def target_scores(output: Tensor, target: TargetType) -> Tensor:
    """The score of the target at its place, zero elsewhere: what LRP starts from.

    Args:
        output: ``(N,)``, ``(N, m)`` or ``(N, m, ...)``.
        target: In any of Captum's forms.

    Returns:
        A tensor shaped as ``output``.

    Raises:
        InvalidTargetError: if the target does not fit the output.
    """
    target = plain_target(target)
    _check_target(output, target)
    with torch.inference_mode(False), torch.enable_grad():
        variable = output.detach().clone().requires_grad_()
        try:
            selected = select_targets(variable, target)
        except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise InvalidTargetError(f"{_describe(target)} does not fit {_outputs(output)}: {error}") from error
        if selected.numel() != output.shape[0]:
            raise InvalidTargetError(
                f"{_describe(target)} selects {selected.numel()} values of {_outputs(output)}, but one score for each "
                f"example is needed; give {_accepted(output)}, or initial_relevance for a region"
            )
        (chosen,) = torch.autograd.grad(selected.sum(), variable)
    return chosen * output.detach()


def targets_of(classes: Any) -> list[Any]:
    """The K targets of ``attribute_classes``, each for all examples.

    Args:
        classes: K targets, or ``(N, K)`` of them as a tensor, an array or a list of N lists.

    Raises:
        InvalidTargetError: for anything else.
    """
    if _is_array(classes):
        classes = torch.as_tensor(classes)
    if isinstance(classes, Tensor) and classes.dim() == 1:
        classes = classes.tolist()
    if not isinstance(classes, Tensor) and (isinstance(classes, str) or not isinstance(classes, Sequence)):
        raise InvalidTargetError(
            f"classes={classes!r} is a {type(classes).__name__}; give K classes in order: a list, a tensor or an array "
            "of them, or of shape (N, K)"
        )
    if not isinstance(classes, Tensor) and len(classes) and isinstance(plain_target(classes[0]), list):
        try:
            classes = torch.tensor([plain_target(of_example) for of_example in classes])
        except (TypeError, ValueError) as error:
            raise InvalidTargetError(f"classes={classes!r} must hold as many classes for each example") from error
    if isinstance(classes, Tensor):
        if classes.dim() != 2 or classes.numel() == 0:
            raise InvalidTargetError(
                f"classes of shape {tuple(classes.shape)} are not K classes for all examples nor (N, K) of them"
            )
        return list(classes.unbind(1))
    if not len(classes):
        raise InvalidTargetError("classes is empty; give at least one class")
    return list(classes)


def plain_target(target: Any) -> Any:
    """The target with NumPy's integers and arrays as Python's integers and lists, which Captum insists on."""
    if _is_array(target):
        listed = target.tolist()
        return [tuple(row) if isinstance(row, list) else row for row in listed] if target.ndim else listed
    if isinstance(target, tuple | list):
        return type(target)(plain_target(item) for item in target)
    if not isinstance(target, bool | int | Tensor) and hasattr(target, "__index__"):
        return operator.index(target)
    return target


def _is_array(value: Any) -> bool:
    """Whether it is an array of NumPy's kind, which need not be imported for that."""
    return hasattr(value, "__array_interface__") and hasattr(value, "ndim") and not isinstance(value, Tensor)


def _check_target(output: Tensor, target: TargetType) -> None:
    """Negative and too large indices, floats and booleans; Captum would take some of them silently."""
    if target is None:
        return
    indices = list(flatten(target.tolist() if isinstance(target, Tensor) else target))
    sizes = list(output.shape[1:]) or [1]
    for index, size in zip(indices, itertools.cycle(sizes), strict=False):
        if isinstance(index, bool) or not isinstance(index, int):
            raise InvalidTargetError(f"{_describe(target)} holds {index!r}; indices must be integers")
        if not 0 <= index < size:
            raise InvalidTargetError(
                f"{_describe(target)} is out of range for {_outputs(output)}; give {_accepted(output)}"
            )


def _outputs(output: Tensor) -> str:
    return f"an output of shape {tuple(output.shape)}"


def _describe(target: TargetType) -> str:
    return f"target {target!r}" if not isinstance(target, Tensor) else f"target tensor of shape {tuple(target.shape)}"


def _accepted(output: Tensor) -> str:
    if output.dim() == 2:
        return f"a class from 0 to {output.shape[1] - 1}, or a list or tensor of {output.shape[0]} of them"
    return f"a tuple of {output.dim() - 1} indices, or a list of {output.shape[0]} such tuples"


# -- neurons ------------------------------------------------------------------------------------------------------


def _selected(activations: Tensor, selector: NeuronSelector) -> Tensor:
    """1 where a neuron is chosen (or how much its activation counts), shaped as ``activations``."""
    if not callable(selector):
        index = plain_target(selector)
        return _marked(activations, index if isinstance(index, tuple) else (index,))
    with torch.inference_mode(False), torch.enable_grad():
        variable = activations.clone().requires_grad_()
        value = selector(variable)
        if not isinstance(value, Tensor) or not value.requires_grad:
            raise InvalidTargetError("neuron_selector does not return a tensor computed from the activations")
        (chosen,) = torch.autograd.grad(value.sum(), variable)
    return chosen


def _marked(activations: Tensor, index: tuple[int | slice, ...]) -> Tensor:
    if len(index) != activations.dim() - 1:
        raise InvalidTargetError(
            f"neuron_selector {index} has {len(index)} entries for a layer of shape {tuple(activations.shape)}; give "
            f"{activations.dim() - 1} of them (dimension 0 counts examples), e.g. (channel, row, column)"
        )
    for position, size in zip(index, activations.shape[1:], strict=True):
        if isinstance(position, bool) or not isinstance(position, int | slice):
            raise InvalidTargetError(f"neuron_selector {index} holds {position!r}; give integers or slices")
        if isinstance(position, int) and not 0 <= position < size:
            raise InvalidTargetError(
                f"neuron_selector {index} is out of range for a layer of shape {tuple(activations.shape)}"
            )
    chosen = torch.zeros_like(activations)
    chosen[(slice(None), *index)] = 1
    return chosen
