"""Supplement B as an experiment: winners of max pooling at the border, with and without zero padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation.experiments.base import Bench, Experiment, Quantity
from captum_clrp.evaluation.metrics.pooling_indices import border_winners, measured_with
from captum_clrp.evaluation.results.records import Measured, Record
from captum_clrp.evaluation.sources import Sample
from captum_clrp.evaluation.statistics import sign_flip_test

__all__ = ["PoolingIndices"]


class PoolingIndices(Experiment):
    """Where max pooling's winners lie; see :mod:`captum_clrp.evaluation.metrics.pooling_indices`; each pooling is a "method"."""

    name = "pooling-indices"
    title = "Max pooling's winners at the border (supplement B)"
    quantities = (
        Quantity("outer", "winners in the outermost line", ""),
        Quantity("uniform", "uniform expectation", ""),
        Quantity("interior", "same share in the interior", ""),
        Quantity("outer_replicated", "winners in the outermost line, borders replicated instead of zeros", ""),
        Quantity("excess", "outermost minus uniform", ""),
        Quantity("padding_effect", "outermost minus outermost with replicated borders", ""),
    )
    headline = "excess"
    uses_methods = False
    chooses_classes = True
    conventions = (
        "Regions in which several pixels share the maximum do not count. p-values are one-sided, by permutation of "
        "signs over images."
    )

    def measure(self, bench: Bench, samples: Sequence[Sample]) -> list[tuple[Measured, ...]]:
        results: list[tuple[Measured, ...]] = []
        for sample in samples:
            inputs = bench.network.inputs(sample.pixels)[None]
            as_is = measured_with(bench.network.model, inputs, replicate=False)
            replicated = measured_with(bench.network.model, inputs, replicate=True)
            if not as_is:
                raise InvalidInputError(
                    f"{bench.network.name} runs no max pooling of two dimensions; choose another --model, e.g. vgg16"
                )
            values = {}
            for plain, other in zip(as_is, replicated, strict=True):
                shares = border_winners(plain)[0].shares()
                without = border_winners(other)[0].shares()["outer"]
                values[plain.name] = shares | {
                    "outer_replicated": without,
                    "excess": shares["outer"] - shares["uniform"],
                    "padding_effect": shares["outer"] - without,
                }
            shown = sample.explained[0] if sample.explained else None
            results.append((Measured(shown.label if shown else 0, shown.name if shown else "", values),))
        return results

    def extra(self, records: Sequence[Record]) -> dict[str, Any]:
        """p-values for each pooling."""
        rows = [m.values for record in records for m in record.measured]
        tests: dict[str, Any] = {}
        for name in rows[0] if rows else ():
            of_layer = [row[name] for row in rows]
            tests[name] = {
                "above_uniform": sign_flip_test([v["excess"] for v in of_layer]),
                "above_interior": sign_flip_test([v["outer"] - v["interior"] for v in of_layer]),
                "above_replicated": sign_flip_test([v["padding_effect"] for v in of_layer]),
            }
        return {"p_values": _plain(tests)}


def _plain(tests: dict[str, Any]) -> dict[str, Any]:
    """Without NaN, which is no JSON."""
    return {n: {k: None if math.isnan(p) else p for k, p in t.items()} for n, t in tests.items()}
