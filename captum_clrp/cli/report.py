"""A report in one file of HTML: pictures, numbers and the plan; nothing in it comes from elsewhere."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence

import captum_clrp
from captum_clrp.cli.explained import Drawing, ExplainedPicture, percent
from captum_clrp.cli.output import GENERATOR

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
img { max-width: 100%; height: auto; background: white; border-radius: 4px; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .25rem .75rem; text-align: right; border-bottom: 1px solid #8884; white-space: nowrap; }
th:first-child, td:first-child, th:nth-child(3), td:nth-child(3) { text-align: left; }
td.remark { white-space: normal; }
pre { overflow-x: auto; font-size: 12px; line-height: 1.35; }
.remark { color: #a84300; } .small { color: #777; font-size: 14px; }
@media (prefers-color-scheme: dark) { .remark { color: #ffb067; } .small { color: #aaa; } }
"""


class Report:
    """Collects pictures as they are explained.

    Args:
        drawing: How their figures are drawn.
    """

    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing
        self._parts: list[str] = []

    def add(self, one: ExplainedPicture) -> None:
        """Take a picture in: its figure and its numbers.

        Args:
            one: The picture.
        """
        name = html.escape(one.name)
        data = base64.b64encode(one.picture(self._drawing, "webp")).decode()
        labels = ", ".join(row.label for row in one.rows())
        alt = html.escape(f"{one.name}: maps of {labels} by {', '.join(one.maps)}")
        self._parts.append(
            f'<section>\n<h2>{name}</h2>\n<img alt="{alt}" src="data:image/webp;base64,{data}">\n'
            f"{_numbers(one)}\n{_leading(one)}\n</section>"
        )
        self._about = one.in_words()

    def page(self, plans: Mapping[str, str], refused: Sequence[str]) -> bytes:
        """The whole report.

        Args:
            plans: The rule of every operation, by the name of the composite.
            refused: Why pictures are missing.
        """
        missing = "".join(f'<p class="remark">{html.escape(why)}</p>' for why in refused)
        planned = "".join(
            f"<details><summary>The rule of every operation: {html.escape(name)}</summary>\n"
            f"<pre>{html.escape(plan)}</pre></details>"
            for name, plan in plans.items()
        )
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1">\n{GENERATOR}\n'
            f"<title>The evidence for a class</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
            f'<h1>The evidence for a class</h1>\n<p class="small">{html.escape(self._about)}; '
            f"captum_clrp {captum_clrp.__version__}</p>\n{missing}\n"
            + "\n".join(self._parts)
            + f"\n{planned}\n</body>\n</html>\n"
        ).encode()


def _numbers(one: ExplainedPicture) -> str:
    """A table: what became of the score of each class by each method."""
    heads = ["class", "logit", "method", "sum", "of score", "absorbed", "signed"]
    rows = []
    for row in one.rows():
        for column, name in enumerate(one.maps):
            shares = [
                "-" if share is None else f"{round(share, 3) + 0:.1%}" for share in one.shares(row, name).values()
            ]
            cells = [row.label, f"{row.score:.2f}", name, f"{row.total(column):.3g}", *shares]
            rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
        if row.remark:
            said = html.escape(f"{row.label} {row.remark}")
            rows.append(f'<tr><td class="remark" colspan="{len(heads)}">{said}</td></tr>')
    header = "".join(f"<th>{html.escape(head)}</th>" for head in heads)
    return f"<table><thead><tr>{header}</tr></thead><tbody>{''.join(rows)}</tbody></table>\n{_READ}"


_READ = (
    '<p class="small">Of score: the sum of the map as a share of the logit. Absorbed: what did not arrive. Signed: of a contrast, '
    "the share before values against the class are cut away; what target and dual lost each is not known apart. -: cannot be "
    "said; values of methods that are no relevance, such as gradients, are no shares of the score.</p>"
)


def _leading(one: ExplainedPicture) -> str:
    said = ", ".join(f"{top['name']} {percent(top['probability'])}" for top in one.facts()["top"])
    return f'<p class="small">The network\'s leading classes: {html.escape(said)}</p>'
