"""Layers at which relevance is read, or at which it starts."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from captum_clrp.engine.marks import depends_on_input
from captum_clrp.engine.nested import flatten, replace
from captum_clrp.engine.trace import Trace
from captum_clrp.errors import ModelStateError


@dataclasses.dataclass(frozen=True)
class Place:
    """A layer at which relevance is read, or at which it starts.

    Attributes:
        layer: The module, or a list of modules.
        at_input: Read at the layer's input instead of its output.
        stop: End the forward pass behind the layer (relevance starts there).
    """

    layer: nn.Module | list[nn.Module]
    at_input: bool = False
    stop: bool = False

    @property
    def layers(self) -> list[nn.Module]:
        return self.layer if isinstance(self.layer, list) else [self.layer]


class LayerReached(BaseException):
    """Ends a forward pass behind the layer of interest; not an ``Exception``, so that no model swallows it."""


class Reader:
    """Finds the tensors at a place while the model runs."""

    def __init__(self, trace: Trace, place: Place | None) -> None:
        self.trace = trace
        self._place = place
        self._found: dict[nn.Module, list[Any]] = {layer: [] for layer in place.layers} if place is not None else {}

    @contextlib.contextmanager
    def watching_inputs(self) -> Iterator[None]:
        """Read the inputs of the layers: the only hooks on modules themselves, for others do not see keyword arguments."""
        thread = threading.get_ident()

        def before(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
            return self._read(module, (args, kwargs)) if threading.get_ident() == thread else None

        at_input = self._place is not None and self._place.at_input
        with contextlib.ExitStack() as hooks:
            for layer in self._found if at_input else ():
                hooks.enter_context(layer.register_forward_pre_hook(before, with_kwargs=True))
            yield

    def after(self, module: nn.Module, output: Any) -> Any:
        """What the module is to return instead of its output; ``None`` for the output itself."""
        at_output = self._place is not None and not self._place.at_input
        return self._read(module, output) if at_output and module in self._found else None

    def _read(self, module: nn.Module, tensors: Any) -> Any:
        if self._place is not None and self._place.stop:
            self._found[module].append(tensors)
            raise LayerReached

        def copy(value: Any) -> Any:
            return self.trace.describe(value.clone(), self.trace.info(value)) if depends_on_input(value) else value

        with torch.enable_grad():
            read = replace(tensors, copy)  # what passes here: the tensor itself may go elsewhere as well
            self._found[module].append(read)
            self.trace.marks.roots.extend(value for value in flatten(read) if depends_on_input(value))
            return replace(read, copy)  # which the model may overwrite

    def reached(self) -> Any:
        """What the layer at which the pass ended returns (or takes); one tensor without the tuple around it."""
        ((tensors,),) = self._found.values()
        if self._place is not None and self._place.at_input:
            args, kwargs = tensors
            tensors = (*args, *kwargs.values())
        return tensors[0] if isinstance(tensors, tuple) and len(tensors) == 1 else tensors

    def check_runs(self) -> None:
        """Refuse a layer that does not run exactly once.

        Raises:
            ModelStateError: saying how often it runs.
        """
        for layer, found in self._found.items():
            if len(found) != 1:
                times = "does not run" if not found else f"runs {len(found)} times"
                raise ModelStateError(
                    f"the layer {type(layer).__name__} {times} in the forward pass; choose a layer that runs exactly once"
                )

    def receivers(self) -> tuple[tuple[Tensor, ...], ...]:
        """The tensors at each layer that depend on the inputs.

        Raises:
            ModelStateError: if a layer does not run exactly once or has no such tensor.
        """
        self.check_runs()
        layers = self._place.layers if self._place is not None else []
        read = [self._found[layer][0] for layer in layers]
        found = tuple(tuple(t for t in flatten(tensors) if depends_on_input(t)) for tensors in read)
        if not all(found):
            raise ModelStateError("no tensor at this layer depends on the inputs; choose another layer")
        return found
