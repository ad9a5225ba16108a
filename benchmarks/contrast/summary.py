"""Means with intervals, paired differences, tables, and the picture of what is traded for what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.contrast.maps import CURVED, STRENGTHS, title
from benchmarks.report import markdown_table
from captum_clrp.evaluation import sign_flip_test
from captum_clrp.evaluation.statistics import bootstrap

__all__ = ["METRICS", "Metric", "differences", "figure", "summarise", "table"]


class Metric(NamedTuple):
    """What is measured.

    Attributes:
        title: In tables and pictures.
        better: ``"high"``, ``"low"`` or ``""``.
    """

    title: str
    better: str


METRICS = {
    "share": Metric("share in the cell", "high"),
    "hit": Metric("maximum in the cell", "high"),
    "deletion": Metric("deletion", "low"),
    "insertion": Metric("insertion", "high"),
    "scene_deletion": Metric("deletion, scenes", "low"),
    "scene_insertion": Metric("insertion, scenes", "high"),
    "drop": Metric("9 x 9 patch", "high"),
    "randomised_rank": Metric("rank, random classifier", "low"),
    "randomised_ssim": Metric("SSIM, random classifier", "low"),
    "gini": Metric("Gini", ""),
}
REFERENCES = ("lrp", "clrp1")
"""Methods with which all others are compared on the same images."""


def summarise(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """For each metric and method the mean, its 95 % interval, and its differences to the references.

    Whole images are drawn for intervals; the classes of a scene belong together. P-values are those of a two-sided
    permutation of signs, image by image.

    Args:
        records: What was measured, one for each explained class.
    """
    found: dict[str, Any] = {}
    for metric in METRICS:
        rows = [r for r in records if any(metric in of_method for of_method in r["values"].values())]
        if rows:
            found[metric] = _of_metric(metric, rows)
    return found


def _of_metric(metric: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    methods = [m for m, of_method in rows[0]["values"].items() if metric in of_method]
    values = np.array([[r["values"][m][metric] for m in methods] for r in rows])
    _, images = np.unique([r["id"] for r in rows], return_inverse=True)
    means = bootstrap(values, images, np.array([r["label"] for r in rows]))
    low, high = means.interval()
    of_image = np.stack([values[images == i].mean(0) for i in range(images.max() + 1)])
    summary: dict[str, Any] = {"images": int(images.max()) + 1, "classes": len(rows), "methods": {}}
    for q, method in enumerate(methods):
        one: dict[str, Any] = {"mean": means.mean[q], "low": low[q], "high": high[q]}
        for reference in REFERENCES:
            if reference != method and reference in methods:
                r = methods.index(reference)
                difference, below, above = means.difference(q, r)
                flips = (of_image[:, q] - of_image[:, r]).tolist()
                p = min(1.0, 2 * min(sign_flip_test(flips), sign_flip_test([-d for d in flips])))
                one[f"minus_{reference}"] = {"mean": difference, "low": below, "high": above, "p": p}
        summary["methods"][method] = _rounded(one)
    return summary


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(v) for key, v in value.items()}
    return round(float(value), 5)


def table(summary: Mapping[str, Any]) -> str:
    """Means of every method; a star where the difference to LRP has an interval without 0."""
    metrics = [m for m in METRICS if m in summary]
    methods = list(dict.fromkeys(m for metric in metrics for m in summary[metric]["methods"]))
    header = ["method", *(METRICS[m].title + {"high": " ↑", "low": " ↓", "": ""}[METRICS[m].better] for m in metrics)]
    rows = [[method, *(_cell(summary[m]["methods"].get(method)) for m in metrics)] for method in methods]
    return markdown_table(header, rows)


def _cell(of_method: Mapping[str, Any] | None) -> str:
    if of_method is None:
        return ""
    difference = of_method.get("minus_lrp")
    clear = difference is not None and (difference["low"] > 0 or difference["high"] < 0)
    return f"{of_method['mean']:.3f}{'*' if clear else ''}"


def differences(summary: Mapping[str, Any]) -> str:
    """What decides, with 95 % intervals: the share in the cell, and what deletion and insertion are more than LRP's."""
    header = ["method", "share in the cell ↑", "deletion less that of lrp ↓", "insertion less that of lrp ↑"]
    rows = []
    for method, share in summary["share"]["methods"].items():
        less = [summary[metric]["methods"][method].get("minus_lrp") for metric in ("deletion", "insertion")]
        rows.append(
            [method, f"{share['mean']:.3f} [{share['low']:.3f}, {share['high']:.3f}]"]
            + ["" if d is None else f"{d['mean']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]" for d in less]
        )
    return markdown_table(header, rows)


def figure(
    summaries: Mapping[str, Mapping[str, Any]], path: Path, images: tuple[str, str] = ("photographs", "scenes")
) -> None:
    """Discriminative against faithful: the curve of each dual from strength 0 (LRP) to 1, one row for each network.

    Args:
        summaries: Of each network.
        path: Of the picture.
        images: What faithfulness is measured on, and what the share is.
    """
    from matplotlib.figure import Figure

    metrics = ("deletion", "insertion")
    drawn = Figure(figsize=(11, 4.2 * len(summaries)), layout="constrained")
    axes = drawn.subplots(len(summaries), len(metrics), squeeze=False)
    for row, (network, summary) in zip(axes, summaries.items(), strict=True):
        for ax, metric in zip(row, metrics, strict=True):
            _curves(ax, summary, metric)
            one, several = images
            counts = summary[metric]["images"], summary["share"]["classes"]
            ax.set_title(f"{network}: {counts[0]} {one}, {counts[1]} classes in {several}")
    axes[0][0].legend(fontsize=8, loc="best")
    drawn.savefig(path, dpi=110)


def _curves(ax: Any, summary: Mapping[str, Any], metric: str) -> None:
    share, faithful = summary["share"]["methods"], summary[metric]["methods"]
    for dual, colour in zip(CURVED, ("C3", "C0", "C2"), strict=True):
        strengths = [s for s in (0, *STRENGTHS) if title(dual, s) in share]
        names = [title(dual, s) for s in strengths]
        x, y = ([of[n]["mean"] for n in names] for of in (share, faithful))
        ax.plot(x, y, "o-", color=colour, markersize=4, label=dual)
        for s, x_s, y_s in zip(strengths, x, y, strict=True):
            if dual == CURVED[0] or s == 1:
                ax.annotate(f"{s:g}", (x_s, y_s), textcoords="offset points", xytext=(4, 4), fontsize=7, color=colour)
    for name in ("random", "gradient", "input-x-gradient", "guided-backprop", "grad-cam", "IntegratedGradients"):
        if name in share and name in faithful:
            x_1, y_1 = share[name]["mean"], faithful[name]["mean"]
            ax.plot(x_1, y_1, "x", color="0.4")
            ax.annotate(name, (x_1, y_1), textcoords="offset points", xytext=(4, -8), fontsize=7, color="0.4")
    ax.set_xlabel("share of positive relevance in the cell of the class (higher is better)")
    ax.set_ylabel(f"area under {metric} ({METRICS[metric].better}er is better)")
    if METRICS[metric].better == "low":
        ax.invert_yaxis()
