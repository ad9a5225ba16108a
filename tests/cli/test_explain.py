import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import captum_clrp
from captum_clrp.cli import explaining, main


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def asked(monkeypatch):
    """The rows of every figure that is drawn."""
    seen = []
    draw = explaining.draw_maps

    def recording(picture, methods, rows, **more):
        seen.append((more["title"], methods, rows))
        return draw(picture, methods, rows, **more)

    monkeypatch.setattr(explaining, "draw_maps", recording)
    return seen


def test_one_picture_one_png_with_all_methods(workplace, with_tiny, picture, capsys, asked):
    code, out, err = run(capsys, "explain", picture, "--target", "zebra,tabby_cat,7")
    assert (code, err) == (0, "")
    assert [path.name for path in workplace.iterdir()] == ["holiday_clrp.png"]
    assert Image.open("holiday_clrp.png").format == "PNG"
    ((title, methods, rows),) = asked
    assert (title, methods) == ("holiday.png", ["LRP", "CLRP1", "CLRP2"])
    assert [row.label for row in rows] == ["zebra", "tabby cat", "cup"]
    assert [line[4:20].split("  ")[0] for line in out.splitlines() if line.startswith("  * ")]
    assert out.count("  * ") == 3
    assert "-> holiday_clrp.png" in out


def test_the_maps_and_figures_are_those_of_the_library(workplace, with_tiny, picture, capsys, asked):
    run(capsys, "explain", picture, "--target", "3", "--avg-pool", "even", "--conserve")
    tiny = with_tiny
    inputs = tiny.inputs(Image.open(picture).convert("RGB"))
    ((_, _, (row,)),) = asked
    with torch.no_grad():
        logit = tiny.model(inputs)[0, 3]
        chance = tiny.model(inputs)[0].softmax(0)[3]
    assert (row.label, row.detail) == ("crane", f"probability {100 * chance:.1f} %, logit {logit:.2f}")
    assert row.remark.startswith("has a negative score")
    assert row.score == pytest.approx(float(logit))
    assert logit < 0
    for kind, found in zip(("LRPZBeta", "ContrastiveLRP1", "ContrastiveLRP2"), row.maps, strict=True):
        explainer = getattr(captum_clrp, kind)(tiny.model, tiny.low, tiny.high, avg_pool="even", conserve=True)
        expected = explainer.attribute(inputs, target=3)[0].detach().numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
        assert np.abs(found).max() > 0


def test_contrasts_of_any_dual_and_strength(workplace, with_tiny, picture, capsys, asked):
    run(
        capsys,
        "explain",
        picture,
        "-t",
        "3",
        "-m",
        "lrp,clrp1,clrp2-s0.5,rivals2,sglrp,other-logits",
        "--strength",
        "0.9",
    )
    ((_, methods, (row,)),) = asked
    inputs = with_tiny.inputs(Image.open(picture).convert("RGB"))
    expected = {
        "LRP": None,
        "CLRP1 (strength 0.9)": (captum_clrp.OtherClasses(), 0.9),
        "CLRP2 (strength 0.5)": (captum_clrp.NegatedWeights(), 0.5),
        "rivals 2 (strength 0.9)": (captum_clrp.NearestRivals(2), 0.9),
        "SGLRP (strength 0.9)": (captum_clrp.SoftmaxGradient(), 0.9),
        "other logits (strength 0.9)": (captum_clrp.OtherLogits(), 0.9),
    }
    assert methods == list(expected)
    for contrast, found in list(zip(expected.values(), row.maps, strict=True))[1:]:
        dual, strength = contrast
        explain = captum_clrp.ContrastiveLRP(
            with_tiny.model, with_tiny.low, with_tiny.high, dual=dual, strength=strength
        )
        np.testing.assert_allclose(found, explain.attribute(inputs, 3)[0].numpy(), rtol=1e-4, atol=1e-6)


def test_bounds_of_the_image_itself(workplace, with_tiny, picture, capsys, asked):
    for bounds in ("pixels", "image"):
        run(capsys, "explain", picture, "-t", "0", "-m", "lrp", "--bounds", bounds)
    first, second = (rows[0].maps[0] for _, _, rows in asked)
    assert not np.allclose(first, second)


def test_several_targets_add_up(workplace, with_tiny, picture, capsys, asked):
    run(capsys, "explain", picture, "--target", "zebra", "-t", "tabby_cat, 7")
    ((_, _, rows),) = asked
    assert [row.label for row in rows] == ["zebra", "tabby cat", "cup"]


def test_the_default_target_is_the_top_two(workplace, with_tiny, picture, capsys, asked):
    run(capsys, "explain", picture, "-m", "clrp2, lrp")
    ((_, methods, rows),) = asked
    with torch.no_grad():
        top = with_tiny.model(with_tiny.inputs(Image.open(picture).convert("RGB"))).topk(2).indices[0]
    assert methods == ["CLRP2", "LRP"]
    assert [row.label for row in rows] == [with_tiny.class_names[i] for i in top]


def test_many_pictures_go_into_a_folder(workplace, with_tiny, picture, capsys):
    Path("out").mkdir()
    other = workplace / "holiday.png"
    other.write_bytes(picture.read_bytes())
    code, out, _ = run(capsys, "explain", picture, other, "-m", "lrp", "-o", "out")
    assert code == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["holiday_clrp.png", "holiday_clrp_2.png"]
    assert out.count("-> out/") == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere.jpg"], "there is no picture nowhere.jpg"),
        (["."], "is a folder"),
        (["broken.png"], "broken.png cannot be decoded"),
        (["broken.png", "nowhere.jpg"], "there is no picture nowhere.jpg"),
        (["PICTURE", "-t", "zebraa"], "nearest names are: zebra"),
        (["PICTURE", "-t", "99"], "classes 0 to 7"),
        (["PICTURE", "-m", "gradcam"], "lrp, clrp1, clrp2"),
        (["PICTURE", "-m", "lrp-s0.9"], "unknown method 'lrp-s0.9'"),
        (["PICTURE", "-m", "rivals0"], "unknown method 'rivals0'"),
        (["PICTURE", "--strength", "1.5"], "'1.5' is no number from 0 to 1"),
        (["PICTURE", "-m", "lrp,clrp1-s0.5", "--strength", "0.9"], "--strength makes no difference"),
        (["PICTURE", "-m", ""], "unknown method"),
        (["PICTURE", "-o", "missing/x.png"], "mkdir -p missing"),
        (["PICTURE", "-o", "PICTURE"], "overwrite"),
        (["PICTURE", "--avg-pool", "max"], "invalid choice"),
        (["PICTURE", "--frobnicate"], "--frobnicate"),
    ],
)
def test_a_mistake_is_one_line_and_code_2_and_leaves_nothing(workplace, with_tiny, picture, capsys, arguments, says):
    content = picture.read_bytes()
    Path("broken.png").write_bytes(content[: len(content) // 2])
    before = {path: path.read_bytes() for path in workplace.iterdir()}
    given = [str(picture) if one == "PICTURE" else one for one in arguments]
    code, out, err = run(capsys, "explain", *given)
    assert (code, out) == (2, "")
    assert says in err
    assert err.startswith("captum-clrp: ")
    assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in workplace.iterdir()} == before
    assert picture.read_bytes() == content


def test_more_rivals_than_classes_are_refused(workplace, with_tiny, picture, capsys):
    code, _, err = run(capsys, "explain", picture, "-m", "rivals8")
    assert code == 2
    assert "give a k from 1 to 7" in err


def test_a_network_that_cannot_be_explained_is_one_line_too(workplace, with_tiny, picture, capsys, monkeypatch):
    class Odd(torch.nn.Module):
        def forward(self, x):
            return x.flatten(1)[:, :8].tan()

    odd = dataclasses.replace(with_tiny, model=Odd())
    monkeypatch.setattr(explaining, "asked_classifier", lambda *_: odd)
    code, _, err = run(capsys, "explain", picture)
    assert code == 2
    assert "tan" in err
    assert err.count("\n") == 1
    assert list(workplace.iterdir()) == []


def test_weights_that_are_not_finite_are_said(workplace, with_tiny, picture, capsys):
    with torch.no_grad():
        next(with_tiny.model.parameters()).fill_(float("nan"))
    code, _, err = run(capsys, "explain", picture)
    assert code == 2
    assert "no finite logits" in err


def test_ctrl_c_leaves_nothing_half_written(workplace, with_tiny, picture, capsys, monkeypatch):
    def interrupted(*_: object, **__: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(explaining, "draw_maps", interrupted)
    code, _, err = run(capsys, "explain", picture)
    assert code == 130
    assert err.count("\n") == 1
    assert list(workplace.iterdir()) == []


def test_a_file_name_with_a_line_break_still_gives_one_line(workplace, capsys):
    code, _, err = run(capsys, "explain", "a\nb\udcff.jpg")
    assert code == 2
    assert err.count("\n") == 1


def test_weights_that_need_the_network(workplace, picture, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    code, out, err = run(capsys, "explain", picture, "--model", "vgg16")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "vgg16-397923af.pth elsewhere and give the path of the file" in err
    assert err.startswith("captum-clrp: --weights: ")


@pytest.mark.filterwarnings("default")
def test_a_network_by_name_with_random_weights(workplace, picture, capsys):
    code, out, err = run(capsys, "explain", picture, "--model", "squeezenet1_1", "--weights", "random", "-t", "340")
    assert code == 0
    assert "squeezenet1_1, weights: random" in out
    # Random weights contrast so little that nothing may be left; the library's remark stays one line.
    assert all(line.startswith("captum-clrp: note: ") for line in err.splitlines())


def test_the_example_shows_the_cat_and_the_cup_apart(workplace, lite0, capsys, asked):
    """Without arguments: the cat is left of the middle and the cup right, for CLRP and not for LRP."""
    code, _, err = run(capsys, "explain")
    assert (code, err) == (0, "")
    assert [path.name for path in workplace.iterdir()] == ["cat_and_coffee_clrp.png"]
    ((_, _, (cat, cup)),) = asked
    assert cat.label.startswith("Egyptian cat")
    assert cup.label.startswith("espresso")
    share_left = [[(m.sum(0)[:, :112].sum() / m.sum()).item() for m in row.maps] for row in (cat, cup)]
    (lrp_cat, clrp1_cat, clrp2_cat), (lrp_cup, clrp1_cup, clrp2_cup) = share_left
    assert min(clrp1_cat, clrp2_cat) > 0.9
    assert max(clrp1_cup, clrp2_cup) < 0.1
    assert max(lrp_cat, 1 - lrp_cup) < 0.85


def test_a_transformer_is_explained_and_rules_are_chosen_by_name(tmp_path, capsys):
    command = ["explain", "--model", "timm/test_vit", "--weights", "random", "-t", "3", "-o", str(tmp_path / "vit.png")]
    assert main([*command]) == 0
    assert (tmp_path / "vit.png").exists()
    assert main([*command, "--rules", "typo"]) == 2
    assert "rules='typo' is not known; choose 'auto', 'paper'" in capsys.readouterr().err


def test_one_bad_picture_of_many_does_not_stop_the_others(workplace, with_tiny, picture, capsys):
    Path("broken.png").write_bytes(picture.read_bytes()[: len(picture.read_bytes()) // 2])
    code, out, err = run(capsys, "explain", "broken.png", picture, "nowhere.jpg")
    assert code == 2
    assert "-> holiday_clrp.png" in out
    assert err.splitlines()[-1].startswith("captum-clrp: 2 of 3 pictures left out: broken.png cannot be decoded")
    assert "there is no picture nowhere.jpg" in err


def test_a_photograph_of_the_users_is_never_written_over(workplace, with_tiny, picture, capsys):
    mine = Path("mine.png")
    mine.write_bytes(picture.read_bytes())
    code, _, err = run(capsys, "explain", "-o", "mine.png", picture)
    assert code == 2
    assert "was not written by captum-clrp" in err
    assert mine.read_bytes() == picture.read_bytes()
    for _ in range(2):  # its own picture it may write again
        assert run(capsys, "explain", "-o", "ours.png", picture)[0] == 0


def test_a_picture_says_how_it_was_made_and_how_much_of_the_score_arrived(workplace, with_tiny, picture, capsys):
    _, out, _ = run(capsys, "explain", picture, "-t", "3,0", "--conserve", "--rules", "gamma")
    told = Image.open("holiday_clrp.png").info
    assert told["Title"] == "holiday.png"
    assert told["Description"].startswith(
        "tiny, weights random; rules gamma, average pooling proportional, conserve on"
    )
    (sums,) = [line for line in out.splitlines() if line.strip().startswith("zebra: relevance sums to LRP ")]
    logit = float(sums.rpartition("logit ")[2].rstrip(")"))
    assert float(sums.partition("LRP ")[2].partition(",")[0]) == pytest.approx(
        logit, abs=0.006
    )  # conserved, two digits
    assert "crane has a negative score" in out
