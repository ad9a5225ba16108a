"""The report that a run prints at its end."""

from __future__ import annotations

from pathlib import Path

from captum_clrp.evaluation.metrics import PerImageMetric
from captum_clrp.evaluation.results.summary import BASELINE, Summary


def report(metric: PerImageMetric, summary: Summary, folder: Path) -> str:
    """What was measured, in lines of text.

    Args:
        metric: The metric.
        summary: What a run of it gave.
        folder: Where the files lie.
    """
    made = summary.made_with
    cost = made["cost"]
    own = cost["model_seconds"]
    lines = [
        f"{summary.title}: {made['model']} ({made['weights']}) on {summary.images['measured']} images, {made['data']}",
        summary.table(metric),
        "Means with 95 % bootstrap intervals. " + summary.conventions,
        *_about_methods(metric, summary),
        *(f"left out: {count} x {reason}" for reason, count in summary.skipped.items()),
        *metric.report(summary),
        f"{cost['images']} images in {cost['seconds']:.1f} s, of which attributions {cost['attribution_seconds']:.1f} s"
        + (f" and the network's own forward passes {own:.1f} s" if own else ""),
        f"-> {folder}",
    ]
    return "\n".join(lines) + "\n"


def _about_methods(metric: PerImageMetric, summary: Summary) -> list[str]:
    """What there is to say where attribution methods are compared."""
    if not metric.uses_methods:
        return []
    targets = summary.made_with["targets"]
    explained = (
        f"The explained class is the network's top one in {targets['top_class']} of {targets['explained']} cases, and its "
        f"score is negative in {targets['negative_score']} (relevance starts with its magnitude, for LRP as well)."
    )
    compared = any(row.difference_to for row in summary.rows)
    return [f"{explained} In brackets behind a method: its difference to {BASELINE}." if compared else explained]
