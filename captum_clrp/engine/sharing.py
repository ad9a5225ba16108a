"""A rule on one linear map, computed as far as relevance asks for it.

An output that received no relevance has none to share, and by most rules an input of zero is given none. Networks are full of
both: behind a ReLU, whole channels are zero in deep layers. Where a large layer has many of them, it is taken without.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from captum_clrp.engine.linear_maps import LinearMap, Part
from captum_clrp.rules import Prepared, RelevanceRule, distribute, prepare


class Sharing:
    """Relevance of the inputs of ``layer`` from that of its outputs, for one concept after another.

    Args:
        rule: By which it is shared.
        layer: The linear map.
        activations: Its input, ``(N, ...)``.
        nonnegative: Whether no activation is known to be negative.
        output: What the operation returned, if the rule needs it and it is this map's.
        conserve: Whether relevance without contributions is spread.
        retain: Whether relevance of further concepts will come; what depends on activations alone is then kept.
    """

    def __init__(
        self,
        rule: RelevanceRule,
        layer: LinearMap,
        activations: Tensor,
        *,
        nonnegative: bool,
        output: Tensor | None,
        conserve: bool,
        retain: bool,
    ) -> None:
        self.rule = rule
        self.layer = layer
        self.activations = activations
        self.nonnegative = nonnegative
        self.output = output
        self.conserve = conserve
        self.retain = retain
        self._whole: Prepared | None = None
        self._kept: list[tuple[Part, Prepared]] = []
        self._kept_outputs: Tensor | None = None

    def share(self, relevance: Tensor) -> Tensor:
        """Relevance shaped as the activations, from relevance shaped as the output. Linear."""
        parts = self._parts(relevance)
        if parts is None:
            if self._whole is None:
                self._whole = prepare(
                    self.rule, self.layer, self.activations, nonnegative=self.nonnegative, output=self.output
                )
            return distribute(self.layer, self._whole, relevance, conserve=self.conserve, last=not self.retain)
        received: Tensor | None = None
        for part, prepared in parts:
            arrived, last = part.of_outputs(relevance), not self._kept
            share = distribute(part.layer, prepared, arrived, conserve=self.conserve, last=last)
            if received is None:
                precision = torch.promote_types(share.dtype, relevance.dtype)
                received = self.activations.new_zeros(self.activations.shape, dtype=precision)
            part.add_inputs(received, share)
        return torch.zeros_like(self.activations) if received is None else received

    def _parts(self, relevance: Tensor) -> Iterable[tuple[Part, Prepared]] | None:
        """What is computed by itself, one after another; ``None`` where the map is best taken whole."""
        if self._whole is not None or not self.rule.by_output:
            return None
        outputs = self.layer.live_outputs(self.activations, relevance)
        if outputs is None:
            return None
        if self._kept_outputs is not None:
            if not (outputs & ~self._kept_outputs).any():
                return self._kept
            outputs = outputs | self._kept_outputs
        parts = self.layer.parts(
            self.activations,
            outputs,
            without_zeros=self.rule.zeros_receive_nothing and not self.conserve,
            together=self.retain or not self.rule.by_example,  # derived weights of each example would add up
        )
        self._kept, self._kept_outputs = [], None
        if parts is None:
            return None
        prepared = ((part, self._prepare_part(part)) for part in parts)
        if not self.retain or not self.layer.parts_are_kept:
            return prepared
        self._kept, self._kept_outputs = list(prepared), outputs
        return self._kept

    def _prepare_part(self, part: Part) -> Prepared:
        return prepare(
            self.rule.of_examples(part.examples, self.activations),
            part.layer,
            part.of_inputs(self.activations),
            nonnegative=self.nonnegative,
            output=None if self.output is None else part.of_outputs(self.output),
        )
