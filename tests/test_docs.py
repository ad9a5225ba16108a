"""The documentation: code runs and prints what pages show, links lead somewhere, the site builds without a warning."""

import html
import importlib.util
import json
import pydoc
import re
import shlex
import shutil
import socket
import statistics
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.pages import DOCS, ROOT, blocks, pages, printed, runs

from captum_clrp.evaluation import read_values

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="tests run apart from the checkout: there are no pages")

PAGES = {str(page.relative_to(ROOT)): page for page in pages()}
TESTED_ELSEWHERE = {"README.md"}  # in test_packaging.py, with a stand-in for weights that cannot be had offline
IMAGE = re.compile(r"!\[([^\]]*)\]\(([^)\s]+)\)")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def text_of(name: str) -> str:
    return PAGES[name].read_text(encoding="utf-8")


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.MULTILINE | re.DOTALL)


def same_output(actual: str, shown: str) -> bool:
    """Equal words; numbers may differ by one in their last digit, as another processor rounds them."""
    number = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")

    def parts(text: str) -> tuple[list[str], list[str]]:
        text = "\n".join(line.rstrip() for line in text.strip().splitlines())
        return number.split(text), number.findall(text)

    def last_digit(number: str) -> float:
        digits, _, exponent = number.partition("e")
        return 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))

    (words, numbers), (shown_words, shown_numbers) = parts(actual), parts(shown)
    return words == shown_words and all(
        abs(float(a) - float(b)) <= 1.001 * last_digit(b) for a, b in zip(numbers, shown_numbers, strict=True)
    )


# --- code


@pytest.mark.usefixtures("registries")
@pytest.mark.parametrize("name", [n for n in PAGES if n not in TESTED_ELSEWHERE and any(runs(text_of(n)))])
def test_code_runs_and_prints_what_the_page_shows(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_: object) -> None:
        raise OSError("examples must run without network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    names: dict[str, object] = {"__name__": "page"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for block, shown in runs(text_of(name)):
            output = printed(block, PAGES[name], names)
            if shown is None:
                assert not output.strip(), f"{name}:{block.line} prints, and the page does not show it:\n{output}"
            else:
                assert same_output(output, shown.content), (
                    f"{name}:{shown.line} shows\n{shown.content}but the code prints\n{output}"
                    f"If that is right: python tests/helpers/pages.py {name}"
                )


@pytest.mark.parametrize("name", PAGES)
def test_code_fits_beside_the_sidebar(name: str) -> None:
    for block in blocks(text_of(name)):
        if block.language in ("python", "bash", "console"):  # what is printed goes on in the next line
            for number, line in enumerate(block.content.splitlines(), block.line + 1):
                assert len(line) <= 88, f"{name}:{number} has {len(line)} columns"


def test_output_is_compared_up_to_the_last_digit() -> None:
    assert same_output("score 7.96 (cat)\n", "score 7.97 (cat)")
    assert same_output("99%", "100%")
    assert not same_output("score 7.95", "score 7.97")
    assert same_output("1.3957e-08 of 7", "1.3956e-08 of 7")
    assert not same_output("1.3957e-07", "1.3957e-08")
    assert not same_output("cat 1", "cup 1")
    assert not same_output("torch.Size([1, 3])", "torch.Size([1, 5])")


def test_what_is_not_run_says_why() -> None:
    text = "<!-- not run: needs ImageNet -->\n```python\nboom()\n```\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n"
    (block, shown), *rest = runs(text)
    assert (block.content, block.line) == ("print(1)\n", 6)
    assert shown is not None
    assert shown.content == "1\n"
    assert not rest
    assert blocks(text)[0].not_run == "needs ImageNet"


def command_lines() -> list[tuple[str, str]]:
    found = []
    for name in PAGES:
        for block in blocks(text_of(name)):
            if block.language == "bash":
                lines = block.content.replace("\\\n", " ").splitlines()
                found += [(name, part.strip()) for line in lines for part in line.split("&&")]
    return [(name, line) for name, line in found if re.match(r"captum-clrp |\S*python -m |torchrun ", line)]


@pytest.mark.parametrize(("name", "line"), command_lines())
def test_commands_take_the_arguments_that_pages_give_them(name: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    if words[0] == "torchrun":
        words = words[words.index("-m") - 1 :]
    module, arguments = ("captum_clrp", words[1:]) if words[0] == "captum-clrp" else (words[2], words[3:])
    if module == "captum_clrp":
        from captum_clrp.cli import _parser as parser
    elif module.startswith("benchmarks."):
        parser = importlib.import_module(module)._parser
    else:
        pytest.skip(f"{module} is not ours")
    parser().parse_args(arguments)


# --- links and pictures


@pytest.mark.parametrize("name", PAGES)
def test_links_have_a_text_and_lead_somewhere(name: str) -> None:
    assert "[](" not in without_code(text_of(name)), f"{name}: a link without text is invisible outside the site"
    for target in LINK.findall(without_code(text_of(name))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        page = (PAGES[name].parent / path) if path else PAGES[name]
        if DOCS / "tutorials" in page.resolve().parents:  # a build copies the notebooks there
            page = ROOT / "tutorials" / page.name
        assert page.exists(), f"{name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert anchor in {slug(h) for h in headings}, f"{name} links to {target}"


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("name", PAGES)
def test_pictures_exist_and_say_what_they_show(name: str) -> None:
    for alternative, target in IMAGE.findall(text_of(name)):
        assert len(alternative.split()) >= 8, f"{name}: {target} needs a text that can stand for it"
        assert alternative.endswith("."), f"{name}: the text of {target} is no sentence"
        if not re.match(r"[a-z]+:", target):
            assert (PAGES[name].parent / target).exists(), f"{name} shows {target}"


def test_every_picture_is_made_by_the_script_and_shown() -> None:
    script = (DOCS / "make_pictures.py").read_text(encoding="utf-8")
    shown = {Path(target).name for name in PAGES for _, target in IMAGE.findall(text_of(name))}
    for picture in (DOCS / "pictures").iterdir():
        assert f"def {picture.stem}()" in script, picture.name
        assert picture.name in shown, f"no page shows {picture.name}"


def test_messages_on_the_page_of_errors_are_those_of_the_code() -> None:
    code = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "captum_clrp").rglob("*.py"))
    code = re.sub(r'"\s*\n\s*f?"', "", code)
    rows = re.findall(r"^\| `(.+?)` ", text_of("docs/reference/errors.md"), flags=re.MULTILINE)
    assert len(rows) > 10
    for message in rows:
        assert message in code, message


# --- results


def sentences_about_results() -> dict[str, str]:
    """What `docs/findings/evaluation.md` has to say, from the files in `docs/results`."""
    rows: dict[tuple[str, str, str], dict[str, float]] = {}
    for name in ("grid", "energy-pointing", "energy-inside", "neurons", "similarity", "pooling-inception"):
        for row in json.loads((DOCS / "results" / f"{name}.json").read_text(encoding="utf-8"))["rows"]:
            rows[name, row["method"], row["quantity"]] = row

    def mean(*key: str) -> float:
        return rows[key]["mean"]  # type: ignore[index]

    critical = [mean("energy-pointing", m, "critical") for m in ("grad-cam", "clrp1", "clrp2")]
    inside = [mean("energy-inside", m, "inside") for m in ("clrp1", "clrp2", "grad-cam", "lrp")]
    share = [mean("grid", m, "share") for m in ("clrp1", "clrp2", "lrp", "grad-cam")]
    neurons = rows["neurons", "clrp2", "diagonal"]
    difference, low, high = (f"{neurons[k]:.3f}" for k in DIFFERENCE)
    second = [mean("pooling-inception", "maxpool2", q) for q in ("outer", "interior", "outer_replicated")]
    first = [mean("pooling-inception", "maxpool1", q) for q in ("outer", "interior")]
    assert critical == sorted(critical, reverse=True), "Grad-CAM is not ahead any more"
    assert inside == sorted(inside, reverse=True), "the contrasts are not ahead any more"
    assert neurons["difference_high"] < 0, "CLRP2 is not below LRP any more"
    assert first[0] < first[1] < second[1] < second[0], "supplement B looks otherwise"
    return {
        "grid": f"put {share[0]:.0%} of their relevance into the right cell, LRP {share[2]:.0%} and Grad-CAM "
        f"{share[3]:.0%}.".replace("%", " %"),
        "critical": "critical share is {:.3f}, that of CLRP1 {:.3f} and of CLRP2 {:.3f}.".format(*critical),
        "inside": "CLRP1 has {:.3f} there, CLRP2 {:.3f}, Grad-CAM {:.3f}, LRP {:.3f}.".format(*inside),
        "neurons": f"in {100 * neurons['mean']:.1f} % of the cases. That is less than LRP "
        f"({100 * mean('neurons', 'lrp', 'diagonal'):.1f} %)",
        "paired": f"difference to LRP is {difference}, with a 95 % interval from {low} to {high}.",
        "second pooling": f"more often ({second[0]:.3f}) than the same line wins inside the image ({second[1]:.3f}), "
        f"and the zeros are part of the reason ({second[2]:.3f} with replicated borders).",
        "first pooling": f"({first[0]:.3f}, inside {first[1]:.3f})",
    }


def test_sanity_checks_are_told_as_they_are() -> None:
    rows: dict[tuple[str, str, str], dict[str, float]] = {}
    for name in ("randomisation", "random-logit", "sensitivity"):
        for row in json.loads((DOCS / "results" / f"{name}.json").read_text(encoding="utf-8"))["rows"]:
            rows[name, row["method"], row["quantity"]] = row

    def means(name: str, quantity: str, *methods: str) -> list[float]:
        return [rows[name, m, quantity]["mean"] + 0 for m in methods]

    first = means("randomisation", "first", "lrp", "clrp1", "clrp1-s0.9")
    steps = means("randomisation", "rank", "lrp", "clrp1")
    other = means("random-logit", "rank", "lrp", "clrp1", "clrp1-s0.9")
    noise = means("sensitivity", "mean", "lrp", "clrp1-s0.9", "clrp1", "grad-cam")
    assert all(rows["sensitivity", m, "mean"]["difference_low"] > 0 for m in ("clrp1", "clrp2", "clrp1-s0.9"))
    assert rows["sensitivity", "grad-cam", "mean"]["difference_high"] < 0
    _, records = read_values(DOCS / "results" / "sensitivity-values.json.gz")
    changes = sorted(m.values["clrp1"]["mean"] for record in records for m in record.measured)
    told = " ".join(text_of("docs/findings/evaluation.md").split())
    for sentence in (
        "rank correlation of {:.2f}, that of CLRP1 {:.2f};".format(*first),
        "LRP keeps {:.2f}, CLRP1 {:.2f}.".format(*other),
        f"Strength 0.9 lies between ({first[2]:.2f} and {other[2]:.2f})",
        "LRP keeps {:.2f} on average over the steps, CLRP1 {:.2f}.".format(*steps),
        "changes LRP's map by {:.2f} of its size on average, that of strength 0.9 by {:.2f} and CLRP1's by {:.2f}; "
        "Grad-CAM's by {:.2f}.".format(*noise),
        f"Half of CLRP1's maps change by {statistics.median(changes):.2f} or less.",
        f"of which one changes by {changes[-1]:.0f} times its size",
    ):
        assert sentence in told, f"say: {sentence}"


DIFFERENCE = ("difference", "difference_low", "difference_high")


@pytest.mark.parametrize(
    "about", ["grid", "critical", "inside", "neurons", "paired", "second pooling", "first pooling"]
)
def test_results_are_told_as_they_are(about: str) -> None:
    told = " ".join(text_of("docs/findings/evaluation.md").split())
    assert sentences_about_results()[about] in told, f"say: {sentences_about_results()[about]}"


def test_the_page_on_contrasts_tells_what_was_measured() -> None:
    told = " ".join(text_of("docs/findings/contrast.md").split())
    lite1, lite2 = (
        json.loads((DOCS / "results" / f"contrast-{name}.json").read_text(encoding="utf-8"))["metrics"]
        for name in ("lite1", "lite2")
    )

    def mean(metric: str, method: str) -> list[float]:
        return [of[metric]["methods"][method]["mean"] for of in (lite1, lite2)]

    def numbers(metric: str, method: str) -> str:
        return "{:.3f} and {:.3f}".format(*mean(metric, method))

    shares = {
        m: "{:.0f} and {:.0f} %".format(*(100 * v for v in mean("share", m))) for m in ("clrp1-s0.9", "lrp", "clrp1")
    }
    ranks = [mean("randomised_rank", m) for m in ("lrp", "clrp1", "clrp1-s0.9")]

    def less(metric: str, method: str, reference: str = "lrp") -> list[dict[str, float]]:
        return [of[metric]["methods"][method][f"minus_{reference}"] for of in (lite1, lite2)]

    def intervals(metric: str, method: str) -> str:
        return " and ".join("{mean:+.3f} [{low:+.3f}, {high:+.3f}]".format(**d) for d in less(metric, method))

    assert all(of[m]["images"] == n for of in (lite1, lite2) for m, n in (("deletion", 200), ("share", 50)))
    for strength in ("s0.9", "s0.95"):
        assert max(d["mean"] for d in less("deletion", f"clrp1-{strength}")) < 0.02
        assert min(d["low"] for d in less("insertion", f"clrp1-{strength}")) > 0
    assert min(mean("share", "clrp1-s0.95")) > 0.9
    assert min(d["low"] for d in less("deletion", "clrp1")) > 0
    one, two = less("deletion", "random", "clrp1")
    assert one["low"] < 0 < one["high"] and two["low"] > 0
    assert mean("share", "clrp1-s0.9")[0] < 0.9 < mean("share", "clrp1-s0.9")[1]
    share = lite1["share"]["methods"]["clrp1-s0.9"]
    assert less("deletion", "clrp1-s0.95")[0]["high"] > 0.02 > less("deletion", "clrp1-s0.95")[1]["high"]
    assert max(abs(m["mean"]) for of in (lite1, lite2) for m in of["drop"]["methods"].values()) < 0.01
    sentences = [
        f"puts {shares['clrp1-s0.9']} of its relevance into the right cell (LRP: {shares['lrp']}, "
        f"the whole contrast: {shares['clrp1']})",
        f"its deletion is {numbers('deletion', 'clrp1-s0.9')} (LRP: {numbers('deletion', 'lrp')}, "
        f"the whole contrast: {numbers('deletion', 'clrp1')})",
        f"its insertion {numbers('insertion', 'clrp1-s0.9')} (LRP: {numbers('insertion', 'lrp')})",
        f"Its differences to LRP in deletion are {intervals('deletion', 'clrp1-s0.9')}",
        f"in insertion {intervals('insertion', 'clrp1-s0.9')}",
        "on Lite1 it has {:.2f} %, with an interval from {:.1f} to {:.1f} %".format(
            *(100 * share[key] for key in ("mean", "low", "high"))
        ),
        "{:.1f} and {:.1f} % for the share, ".format(*(100 * v for v in mean("share", "clrp1-s0.95")))
        + f"deletion {intervals('deletion', 'clrp1-s0.95')} against LRP's",
        f"insertion {intervals('insertion', 'clrp1-s0.95')}",
        f"its differences to LRP are {intervals('deletion', 'clrp1')}",
        "random order ({:.3f} against {:.3f}), on Lite2 it can ({:.3f} against {:.3f})".format(
            *(of["deletion"]["methods"][m]["mean"] for of in (lite1, lite2) for m in ("clrp1", "random"))
        ),
        f"(strength 1: {numbers('insertion', 'clrp1')}; random: {numbers('insertion', 'random')})",
        "{:.3f} for the five nearest rivals".format(lite1["deletion"]["methods"]["rivals5-s0.9"]["mean"]),
        f"(rank correlation {ranks[0][0]:.2f}); that of the whole contrast does not "
        f"({ranks[1][0]:.2f} and {ranks[1][1]:.2f}). Strength 0.9 lies between ({ranks[2][0]:.2f} and {ranks[2][1]:.2f})",
        "{:.3f} for CLRP2".format(lite1["deletion"]["methods"]["clrp2-s0.9"]["mean"]),
    ]
    lite0 = json.loads((DOCS / "results" / "contrast-lite0.json").read_text(encoding="utf-8"))["metrics"]

    def of_lite0(strength: str) -> list[str]:
        share = f"{100 * lite0['share']['methods'][f'clrp1-{strength}']['mean']:.1f} %"
        less = (lite0[metric]["methods"][f"clrp1-{strength}"]["minus_lrp"] for metric in ("deletion", "insertion"))
        return [share, *("{mean:+.3f} [{low:+.3f}, {high:+.3f}]".format(**d) for d in less)]

    assert (lite0["deletion"]["images"], lite0["share"]["images"]) == (200, 50)
    assert max(of["deletion"]["methods"]["clrp1-s0.9"]["minus_lrp"]["low"] for of in (lite0, lite1, lite2)) < 0
    sentences += [
        "strength 0.9 has a share of {} there, deletion {} and insertion {} against LRP's".format(*of_lite0("s0.9")),
        "strength 0.95 {}, {} and {}. So 0.95 reaches 90 %".format(*of_lite0("s0.95")),
    ]
    for sentence in sentences:
        assert sentence in told, f"say: {sentence}"
    readme = " ".join(text_of("README.md").split())
    for sentence in (
        f"CLRP1 puts {shares['clrp1']} of its relevance into the right one; LRP {shares['lrp']}.",
        f"stays (rank correlation {ranks[0][0]:.2f}), that of CLRP1 does not ({ranks[1][0]:.2f} and {ranks[1][1]:.2f})",
        f"still puts {shares['clrp1-s0.9']} into the right photograph",
    ):
        assert sentence in readme, f"say in the README: {sentence}"


def test_the_experiment_on_the_whole_contrast_says_what_the_page_says() -> None:
    found = json.loads((DOCS / "results" / "contrast-why.json").read_text(encoding="utf-8"))
    deletion = found["means"]["deletion"]
    loss = {name: of.get("difference", 0.0) for name, of in deletion.items()}
    for other in ("signed", "conserve"):  # neither the positive part nor absorption
        assert deletion[other]["mean"] > deletion["CLRP1"]["mean"] and deletion[other]["interval"][0] > 0
    by_lrp, by_contrast = "LRP chooses, CLRP1 orders", "CLRP1 chooses, LRP orders"
    assert loss[by_lrp] < loss[by_contrast] < loss["CLRP1"] / 2
    assert all(deletion[name]["interval"][0] < 0 < deletion[name]["interval"][1] for name in (by_lrp, by_contrast))
    told = text_of("docs/findings/contrast.md").partition("## What the experiment says")[2]
    assert f"{found['photographs']} photographs, the intervals of the crossed maps include zero" in " ".join(
        told.split()
    )


def test_what_does_not_work_does_not() -> None:
    """What `docs/findings/what-does-not-work.md` says, where no other test reads it from the results."""

    def result(name: str) -> dict[str, Any]:
        return json.loads((DOCS / "results" / f"{name}.json").read_text(encoding="utf-8"))

    for network in ("lite0", "lite1", "lite2"):
        assert result(f"contrast-{network}")["metrics"]["deletion"]["methods"]["clrp1"]["minus_lrp"]["low"] > 0
    neurons = {r["method"]: r for r in result("neurons")["rows"] if r["quantity"] == "diagonal"}
    assert neurons["clrp2"]["high"] < 1 / 8
    grid = {r["method"]: r for r in result("grid")["rows"] if r["quantity"] == "share"}
    assert all(grid[f"{m}-even"]["low"] <= 0.25 <= grid[f"{m}-even"]["high"] for m in ("clrp1", "clrp2"))
    full = result("contrast-full-lite1")["metrics"]["share"]["methods"]
    assert full["clrp1-even"]["low"] > 0.25 and abs(full["lrp-even"]["mean"] - 0.25) < 0.001
    assert full["clrp1-gamma"]["mean"] < 0.55 and full["clrp1"]["mean"] > 0.9


def test_the_page_on_more_contrasts_tells_what_was_measured() -> None:
    told = " ".join(text_of("docs/findings/contrast-more.md").split())
    results = DOCS / "results"
    on_digits = json.loads((results / "contrast-digits.json").read_text(encoding="utf-8"))["networks"].values()
    few = json.loads((results / "contrast-full-lite1.json").read_text(encoding="utf-8"))["metrics"]
    joined = json.loads((results / "contrast-joined-lite1.json").read_text(encoding="utf-8"))["metrics"]
    of_share, of_deletion = ({m: d["mean"] for m, d in joined[k]["methods"].items()} for k in ("share", "deletion"))
    assert (joined["deletion"]["images"], joined["share"]["images"]) == (40, 10)

    def between(metric: str, method: str) -> str:
        means = [of[metric]["methods"][method]["mean"] for of in on_digits]
        return f"{min(means):.2f} to {max(means):.2f}"

    def percent(method: str) -> str:
        return f"{100 * few['share']['methods'][method]['mean']:.0f} %"

    def mean(method: str) -> str:
        return f"{few['deletion']['methods'][method]['mean']:.3f}"

    def minus_lrp(method: str) -> str:
        return "{mean:+.3f} [{low:+.3f}, {high:+.3f}]".format(**few["deletion"]["methods"][method]["minus_lrp"])

    assert (few["deletion"]["images"], few["share"]["images"]) == (100, 25)
    differences = [
        of["minus_lrp"]
        for metrics in on_digits
        for metric in ("deletion", "insertion")
        for m, of in metrics[metric]["methods"].items()
        if m not in ("lrp", "random", "gradient")
    ]
    clear = max(abs(d["mean"]) for d in differences if d["low"] > 0 or d["high"] < 0)
    gradients = [percent(m)[:2] for m in ("input-x-gradient", "guided-backprop", "IntegratedGradients", "SmoothGrad")]
    for sentence in (
        f"{between('share', 'clrp1-s0.9')}, against {between('share', 'clrp1')} for the whole contrast and "
        f"{between('share', 'lrp')} for LRP",
        f"rank correlation of {between('randomised_rank', 'lrp')}, the whole contrast {between('randomised_rank', 'clrp1')}",
        f"are clear (the largest is {clear:.3f}), in either direction",
        "with 100 photographs and 25 scenes",
        f"LRP puts {percent('lrp-even')} into each cell and CLRP1 with strength 0.9 {percent('clrp1-s0.9-even')}",
        "({:.0f} and {:.0f} % in the right cell; strength 0.9: {:.0f} %)".format(
            *(100 * of_share[m] for m in ("Gated", "GeometricMean", "clrp1-s0.9"))
        ),
        "their deletion is {:.3f} and {:.3f}, nearer to that of the whole contrast ({:.3f}) than to LRP's ({:.3f}) or that of "
        "strength 0.9 ({:.3f})".format(
            *(of_deletion[m] for m in ("Gated", "GeometricMean", "clrp1", "lrp", "clrp1-s0.9"))
        ),
        "The whole contrast has {:.0f} % [{:.0f}, {:.0f}], a little above chance".format(
            *(100 * few["share"]["methods"]["clrp1-even"][key] for key in ("mean", "low", "high"))
        ),
        f"(CLRP1: {percent('clrp1-conserve')}, without {percent('clrp1')}); its deletion is {mean('clrp1-conserve')} (without "
        f"{mean('clrp1')}; low is good), with strength 0.9 {mean('clrp1-s0.9-conserve')} (without {mean('clrp1-s0.9')})",
        f"CLRP1 puts {percent('clrp1-gamma')} into the cell",
        f"Epsilon-plus puts {percent('clrp1-epsilon-plus')} there, with a deletion of {mean('clrp1-epsilon-plus')}",
        f"put {percent('sglrp')} and {percent('other-logits')} into the cell; with strength 0.9 their deletion differs from LRP's "
        f"by {minus_lrp('sglrp-s0.9')} and {minus_lrp('other-logits-s0.9')}",
        f"has {percent('ZennitEpsilonPlus')}; the gradient methods have {min(gradients)} to {max(gradients)} %",
    ):
        assert sentence in told, f"say: {sentence}"


def test_the_page_to_choose_from_tells_what_was_measured() -> None:
    def result(name: str) -> dict[str, Any]:
        return json.loads((DOCS / "results" / f"{name}.json").read_text(encoding="utf-8"))

    grid = {r["method"]: 100 * r["mean"] for r in result("grid")["rows"] if r["quantity"] == "share"}
    rows = result("digits")["rows"]
    found = {(r["network"], r["rules"], r["method"]): r["patches"]["mean"] for r in rows if "patches" in r}
    auto = {n: [found[n, "auto", m] for m in ("CLRP1", "CLRP2")] for n, rules, _ in found if rules == "auto"}
    ahead = {n: shares for n, shares in auto.items() if round(abs(shares[0] - shares[1]), 2) > 0.02}
    assert list(ahead) == ["convnext-batchnorm", "cnn-elu"], "CLRP1 and CLRP2 differ elsewhere"
    assert len(auto) == 19
    signed = [n for n in auto if n in ("convnext", "hybrid", "vit", "vit-mean", "swin", "mobilevit")]
    gamma, paper = ([100 * found[n, rules, "CLRP1"] for n in signed] for rules in ("gamma", "paper"))
    contrast = [result(f"contrast-{name}")["metrics"] for name in ("lite1", "lite2")]

    def two(metric: str, method: str, form: str, times: float = 1) -> str:
        first, second = (format(times * of[metric]["methods"][method]["mean"], form) for of in contrast)
        return f"{first} and {second}"

    told = " ".join(text_of("docs/how-to/choose.md").split())
    for sentence in (
        f"{grid['clrp1']:.0f} % of its relevance lies in the right one; LRP has {grid['lrp']:.0f} %, "
        f"Grad-CAM {grid['grad-cam']:.0f} %",
        f"in the grid {grid['clrp1']:.1f} and {grid['clrp2']:.1f} % of the relevance",
        "({:.2f} against {:.2f} on `convnext-batchnorm`, ".format(*ahead["convnext-batchnorm"])
        + "{:.2f} against {:.2f} on `cnn-elu`)".format(*ahead["cnn-elu"]),
        f"{two('share', 'clrp1-s0.9', '.0f', 100)} % of the relevance lie in the right cell (LRP: "
        f"{two('share', 'lrp', '.0f', 100)} %, the whole contrast: {two('share', 'clrp1', '.0f', 100)} %)",
        f"low is good: {two('deletion', 'clrp1-s0.9', '.3f')}; LRP: {two('deletion', 'lrp', '.3f')}; "
        f"the whole contrast: {two('deletion', 'clrp1', '.3f')})",
        f"CLRP1 puts {min(gamma):.0f} to {max(gamma):.0f} % of its relevance into the right cell with gamma, "
        f"and {min(paper):.0f} to {max(paper):.0f} % with the paper's rules",
    ):
        assert sentence in told, f"say: {sentence}"


def test_the_page_on_speed_tells_how_large_the_noise_is() -> None:
    settings = json.loads((DOCS / "results" / "speed-cpu.json").read_text(encoding="utf-8"))["settings"]
    alike = ("ours: LRP", "ours: classes 1", "ours: LRP, internal_batch_size=2")
    of_networks = [[s["results"][name]["minimum"] for name in alike] for s in settings if s["batch"] == 1]
    noise = max(max(times) / min(times) - 1 for times in of_networks)
    assert f"show the noise: up to {100 * noise:.0f} %." in " ".join(text_of("docs/findings/speed.md").split())


def test_pages_tell_how_many_networks_were_measured_and_what_arrives() -> None:
    networks = json.loads((DOCS / "results" / "architectures.json").read_text(encoding="utf-8"))["networks"]
    mixing = {name for names in attention_networks().values() for name in names.split()}
    families = ("vit", "swin", "swin_v2", "maxvit")  # those of torchvision
    found = [n for n in networks if n["network"].split("/")[1] in mixing or n["family"] in families]
    assert f"{len(networks)} networks of torchvision and timm" in text_of("docs/findings/index.md")
    assert f"{len(found)} of them mix places" in text_of("docs/findings/index.md")
    (lite,) = (n["realistic"] for n in networks if n["network"] == "timm/tf_efficientnet_lite0")
    arrives = min(lite["default"]["arrives"])
    assert f"says that {100 * arrives:.0f} % of the score" in " ".join(
        text_of("docs/explanation/conservation.md").split()
    )


def attention_networks() -> dict[str, str]:
    sys.path.insert(0, str(ROOT))
    try:
        return importlib.import_module("benchmarks.networks")._ATTENTION
    finally:
        sys.path.remove(str(ROOT))


def digits(name: str) -> dict[tuple[str, str | None, str], dict[str, Any]]:
    rows = json.loads((DOCS / "results" / f"{name}.json").read_text(encoding="utf-8"))["rows"]
    return {(r["network"], r["rules"], r["method"]): r["patches"] for r in rows if "patches" in r}


def test_the_page_on_digits_tells_what_was_measured() -> None:
    found = digits("digits")

    def mean(network: str, rules: str | None, method: str = "CLRP1") -> float:
        return float(f"{found[network, rules, method]['mean']:.2f}")

    networks = [network for network, rules, method in found if (rules, method) == ("auto", "CLRP1")]
    occluded = {network: mean(network, None, "occlusion of patches") for network in networks}
    below = [n for n in networks if mean(n, "auto") < occluded[n]]
    assert (len(networks), below) == (19, ["convnext-batchnorm", "convnext-rectified", "linear-bottlenecks"])
    with_attention = ("hybrid", "vit", "vit-mean")
    gates = [mean(n, None, "gradient x attention") for n in with_attention]
    ours = [mean(n, "auto") for n in with_attention]
    signed = ("convnext", "hybrid", "vit", "vit-mean", "swin", "mobilevit")
    assert all(abs(mean(n, "paper", "LRP") - 0.25) < 0.02 for n in signed)
    paper, gamma = ([100 * mean(n, rules) for n in signed] for rules in ("paper", "gamma"))
    share = "gamma, batch norm and position take their share"
    bn, rectified, bottlenecks = below
    told = " ".join(text_of("docs/findings/digits.md").split())
    for sentence in (
        f"CLRP1 reaches {min(paper):.0f} to {max(paper):.0f} %. With gamma, CLRP1 reaches {min(gamma):.0f} to {max(gamma):.0f} %",
        f"below on `{bn}` ({mean(bn, 'auto'):.2f} against {occluded[bn]:.2f}), on `{rectified}` "
        f"({mean(rectified, 'auto'):.2f} against {occluded[rectified]:.2f}) and on `{bottlenecks}` "
        f"({mean(bottlenecks, 'auto'):.2f} against {occluded[bottlenecks]:.2f}), a small MobileNetV2, where gamma would have "
        f"{mean(bottlenecks, 'gamma'):.2f}",
        "{:.2f} on `hybrid`, {:.2f} on `vit` and {:.2f} on `vit-mean`, against {:.2f}, {:.2f} and {:.2f} by CLRP1".format(
            *gates, *ours
        ),
        f"on `vit`, {mean('vit', None, 'LXT CP-LRP'):.2f} and {mean('vit', None, 'LXT AttnLRP'):.2f}, are what",
        f"means take `{bn}` from {mean(bn, 'gamma'):.2f} to {mean(bn, 'gamma, means 1'):.2f}, sums take `{rectified}` from "
        f"{mean(rectified, 'gamma'):.2f} to {mean(rectified, 'gamma, sums 1'):.2f}",
        f"takes `{bn}` to {mean(bn, share):.2f}, but `cnn-linear-end` from {mean('cnn-linear-end', 'gamma'):.2f} to "
        f"{mean('cnn-linear-end', share):.2f} and `cnn-tanh` from {mean('cnn-tanh', 'gamma'):.2f} to {mean('cnn-tanh', share):.2f}",
    ):
        assert sentence in told, f"say: {sentence}"


def test_the_table_of_other_collages_is_in_the_results() -> None:
    page, found = text_of("docs/findings/digits.md"), digits("digits-elsewhere")
    header, _, *lines = page[page.index("| rules | convnext-batchnorm |") :].partition("\n\n")[0].splitlines()
    networks = [cell.strip() for cell in header.split("|")[2:-1]]
    assert len(lines) * len(networks) == len(found) == 36
    for line in lines:
        rules, *cells = (cell.strip().strip('`"') for cell in line.split("|")[1:-1])
        key = (None, "occlusion of patches") if rules == "occlusion" else (rules, "CLRP1")
        for network, cell in zip(networks, cells, strict=True):
            assert cell == "{:.2f}, {:.2f}".format(*found[(network, *key)]["by_seed"]), (network, rules)


def test_the_table_of_signed_features_tells_what_digits_measured() -> None:
    rows = json.loads((DOCS / "results" / "digits.json").read_text(encoding="utf-8"))["rows"]
    found = {(r["network"], r["rules"], r["method"]): r["patches"]["mean"] for r in rows if "patches" in r}
    columns = [
        ("paper", "CLRP1"),
        ("paper, means by sign", "CLRP1"),
        ("gamma", "CLRP1"),
        (None, "occlusion of patches"),
    ]
    text = text_of("docs/explanation/signed-features.md")
    table = re.findall(r"^\| `([\w-]+)` \|[^|]+\|(.*)\|$", text, flags=re.MULTILINE)
    assert len(table) == 13
    for network, cells in table:
        for shown, key in zip(cells.split("|"), columns, strict=True):
            assert not shown.strip() or float(shown) == round(found[(network, *key)], 2), (network, key)
    better = f"{found['cnn-groupnorm', 'paper', 'CLRP1']:.2f} against {found['cnn-groupnorm', 'gamma', 'CLRP1']:.2f}"
    assert f"(`cnn-groupnorm`: {better})" in text


# --- the site


NEEDS_DOCS = pytest.mark.skipif(
    any(importlib.util.find_spec(n) is None for n in ("sphinx", "furo", "myst_nb")), reason="needs the extra 'docs'"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built from a copy, since a build writes generated parts beside its sources."""
    source = tmp_path_factory.mktemp("site") / "repository"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "_build", "build", "dist", "*.egg-info"))
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "docs", "site"],
        cwd=source,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return source / "site"


@pytest.mark.slow
@NEEDS_DOCS
def test_site_builds_without_a_warning(site: Path) -> None:
    index = (site / "explanation" / "relevance.html").read_text(encoding="utf-8")
    assert "<math" in index
    assert not re.search(r"<script[^>]*(?:mathjax|katex)", index, flags=re.IGNORECASE)
    # Complete without network: nothing is loaded from elsewhere.
    for page in site.rglob("*.html"):
        shown = page.relative_to(site)
        text = page.read_text(encoding="utf-8")
        if shown.parts[0] != "_modules":
            assert page.stat().st_size < 200_000, f"{shown} has {page.stat().st_size // 1000} kB"
        assert "&lt;function " not in text, f"{shown} prints a function"
        assert "Not measured yet" not in text, f"{shown} has a section without a result"
        for line in re.findall(r'<div class="highlight-(?!text )\w+ .*?</pre>', text, flags=re.DOTALL):
            widest = max(len(html.unescape(re.sub("<.*?>", "", part))) for part in line.splitlines())
            assert widest <= 88, f"{shown} has code of {widest} columns"
        loaded = re.findall(r"<(?:script|img|link)[^>]*?(?:src|href)=\"(https?:[^\"]+)\"", text)
        assert not loaded, f"{page.name} loads {loaded}"


@pytest.mark.slow
@NEEDS_DOCS
def test_tables_of_words_say_their_columns_and_those_of_numbers_scroll(site: Path) -> None:
    def tables(page: str) -> list[str]:
        return re.findall(r"<table.*?</table>", (site / page).read_text(encoding="utf-8"), flags=re.DOTALL)

    (words,) = tables("how-to/choose.html")
    assert "stacks" in words.partition(">")[0]
    assert words.count('<span class="label">use: </span>') == words.count("<tr") - 1
    assert not any(
        "stacks" in table.partition(">")[0] for table in tables("findings/speed.html") if "text-right" in table
    )


@pytest.mark.slow
@NEEDS_DOCS
def test_pictures_lead_to_their_files(site: Path) -> None:
    led = 0
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        article = text[text.find("<article") : text.rfind("</article>")]
        addresses = re.findall(r'<a class="picture [^>]*href="([^"]+)"[^>]*><img', article)
        assert len(addresses) == article.count("<img"), page.name
        for address in addresses:
            assert (page.parent / address).is_file(), f"{page.name} leads to {address}"
        led += len(addresses)
    assert led > 40


REFERENCE = (
    "",
    "rules",
    "composites",
    "contrast",
    "bounds",
    "inspection",
    "errors",
    "images",
    "geometry",
    "classifiers",
    "visualization",
    "app",
    "theory.taylor",
    "evaluation",
)
"""Modules of the package whose public names are all in the reference."""


@pytest.mark.slow
@NEEDS_DOCS
def test_every_public_name_is_in_the_reference(site: Path) -> None:
    from sphinx.util.inventory import InventoryFile

    with (site / "objects.inv").open("rb") as file:
        inventory = InventoryFile.load(file, "", lambda base, name: name)
    documented: dict[str, list[Any]] = {}
    for kind, entries in inventory.items():
        for name in entries if kind.startswith("py:") else ():
            documented.setdefault(name.rpartition(".")[2], []).append(pydoc.locate(name))
    for part in REFERENCE:
        module = importlib.import_module(f"captum_clrp.{part}".rstrip("."))
        missing = [n for n in module.__all__ if not any(getattr(module, n) is v for v in documented.get(n, ()))]
        assert [n for n in missing if n != "__version__"] == [], f"the reference lacks these of {module.__name__}"
