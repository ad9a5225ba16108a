import base64
import dataclasses
import io
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision
from PIL import ExifTags, Image

import captum_clrp
from captum_clrp.cli import explained, explaining, main


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture
def asked(monkeypatch):
    """The rows of every figure that is drawn."""
    seen = []
    draw = explained.draw_maps

    def recording(picture, methods, rows, **more):
        seen.append((more["title"], methods, rows))
        return draw(picture, methods, rows, **more)

    monkeypatch.setattr(explained, "draw_maps", recording)
    return seen


def test_one_picture_one_png_with_all_methods(workplace, with_tiny, picture, capsys, asked):
    code, out, err = run(capsys, "explain", picture, "--target", "zebra,tabby_cat,7")
    assert (code, err) == (0, "")
    assert [path.name for path in workplace.iterdir()] == ["holiday_clrp.png"]
    assert Image.open("holiday_clrp.png").format == "PNG"
    ((title, methods, rows),) = asked
    assert (title, methods) == ("holiday.png", ["LRP", "CLRP1", "CLRP2", "CLRP1 (strength 0.9)"])
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
    kinds = [("LRPZBeta", {}), ("ContrastiveLRP1", {}), ("ContrastiveLRP2", {}), ("ContrastiveLRP1", {"strength": 0.9})]
    for (kind, strength), found in zip(kinds, row.maps, strict=True):
        settings = {"avg_pool": "even", "conserve": True, **strength}
        explainer = getattr(captum_clrp, kind)(tiny.model, tiny.low, tiny.high, **settings)
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
        ([""], "IMAGE is empty"),
        (["photos*.jpg"], "no picture is called photos*.jpg"),
        (["PICTURE", "-o", "x.gif"], "ends in none of .png .jpg"),
        (["PICTURE", "--maps", "x.png"], "--maps x.png ends in none of .npz"),
        (["PICTURE", "--report", "x.pdf"], "--report x.pdf ends in none of .html"),
        (["PICTURE", "--targets", "broken.png"], "--targets broken.png cannot be read"),
        (["PICTURE", "--smooth", "-1"], "no number of pixels"),
        (["PICTURE", "--batch", "0"], "no number of pictures"),
        (["broken.png"], "broken.png cannot be decoded"),
        (["broken.png", "nowhere.jpg"], "there is no picture nowhere.jpg"),
        (["PICTURE", "-t", "zebraa"], "nearest names are: zebra"),
        (["PICTURE", "-t", "99"], "classes 0 to 7"),
        (["PICTURE", "-m", "gradcam"], "did you mean grad-cam? choose from"),
        (["PICTURE", "-m", "lrp-s0.9"], "unknown method 'lrp-s0.9'"),
        (["PICTURE", "-m", "rivals0"], "unknown method 'rivals0'"),
        (["PICTURE", "--strength", "1.5"], "'1.5' is no number from 0 to 1"),
        (["PICTURE", "-m", "lrp,clrp1-s0.5", "--strength", "0.9"], "--strength makes no difference"),
        (["PICTURE", "-m", "lrp-even", "--avg-pool", "even"], "--avg-pool makes no difference to lrp-even"),
        (["PICTURE", "-m", "grad-cam", "--rules", "gamma", "--conserve"], "--conserve, --rules makes no difference"),
        (["PICTURE", "-m", "gradient", "--bounds", "image"], "--bounds makes no difference to gradient"),
        (["PICTURE", "-m", "lrp-even", "--precision", "bfloat16"], "--precision makes no difference to lrp-even"),
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

    monkeypatch.setattr(explained, "draw_maps", interrupted)
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
    (lrp_cat, *clrp_cat), (lrp_cup, *clrp_cup) = share_left
    assert len(clrp_cat) == len(clrp_cup) == 3  # CLRP1, CLRP2, CLRP1 with strength 0.9
    assert min(clrp_cat) > 0.85
    assert max(clrp_cup) < 0.15
    assert max(lrp_cat, 1 - lrp_cup) < 0.85


def test_a_transformer_is_explained_and_rules_are_chosen_by_name(tmp_path, capsys):
    command = ["explain", "--model", "timm/test_vit", "--weights", "random", "-t", "3", "-o", str(tmp_path / "vit.png")]
    assert main([*command]) == 0
    assert (tmp_path / "vit.png").exists()
    assert main([*command, "--rules", "typo"]) == 2
    assert "rules='typo' is not known; choose 'auto', 'paper'" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["state dict", "Lightning", "safetensors"])
def test_a_vision_transformer_with_weights_of_a_file(workplace, picture, capsys, kind):
    torch.manual_seed(0)
    network = torchvision.models.vit_b_16()
    torch.nn.init.normal_(network.heads.head.weight, std=0.02)  # torchvision starts it at zero
    state = network.state_dict()
    if kind == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(state, "vit.safetensors")
    else:
        wrapped = {
            "state dict": state,
            "Lightning": {"state_dict": {f"model.{name}": value for name, value in state.items()}},
        }
        torch.save(wrapped[kind], "vit.pth")
    (file,) = Path().glob("vit.*")
    command = [
        "explain",
        picture,
        "--model",
        "vit_b_16",
        "--weights",
        file,
        "-t",
        "340",
        "-m",
        "lrp",
        "--maps",
        "m.npz",
    ]
    code, out, _ = run(capsys, *command)
    assert code == 0
    assert f"vit_b_16, weights: {file}" in out
    with np.load("m.npz") as found, torch.no_grad():
        maps, logit = found["maps"], float(found["logits"][0])
        expected = float(network.eval()(prepared(picture))[0, 340])
    assert logit == pytest.approx(expected, abs=1e-4)
    assert 0.9 < float(maps.sum()) / logit <= 1.0001  # the class token takes a little


def prepared(picture):
    weights = torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1
    return weights.transforms()(Image.open(picture).convert("RGB"))[None]


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
        "tiny, weights: random; rules gamma, average pooling proportional, conserve on"
    )
    (sums,) = [line for line in out.splitlines() if line.strip().startswith("zebra: LRP sum ")]
    (leading,) = [line for line in out.splitlines() if line.startswith("  * zebra")]
    logit = float(leading.rpartition("logit ")[2])
    assert float(sums.partition("sum ")[2].partition(" ")[0]) == pytest.approx(
        logit, abs=0.006
    )  # conserved, two digits
    assert "(100.0% of score), 0% absorbed" in sums
    assert re.search(r"CLRP1 sum 0\.\d+ \(\d+\.\d% of score\), signed 0.0%\n", out)  # target and dual arrive whole
    assert re.search(r"zebra: CLRP1 \(strength 0\.9\) sum .* signed 10\.0%\n", out)
    assert "crane has a negative score" in out
    assert "; crane has a negative score: a contrast" in told["Description"]
    assert "; drawn as overlay, signed, smoothed with a Gaussian of 3 pixels" in told["Description"]


@pytest.mark.parametrize(("ending", "form"), [("jpg", "JPEG"), ("webp", "WEBP"), ("pdf", None), ("svg", None)])
def test_the_ending_decides_about_the_format_and_only_own_files_are_replaced(
    workplace, with_tiny, picture, capsys, ending, form
):
    path = Path(f"why.{ending}")
    for _ in range(2):
        assert run(capsys, "explain", picture, "-t", "zebra", "-m", "lrp", "-o", path)[0] == 0
    if form is not None:
        opened = Image.open(path)
        assert opened.format == form
        assert "zebra: probability" in opened.getexif()[ExifTags.Base.ImageDescription]
    else:
        assert b"zebra: probability" in path.read_bytes()
    path.write_bytes(b"mine " + path.read_bytes().replace(b"captum-clrp", b"other-thing"))
    code, _, err = run(capsys, "explain", picture, "-t", "zebra", "-m", "lrp", "-o", path)
    assert code == 2
    assert "was not written by captum-clrp" in err


def test_maps_as_arrays_are_those_of_the_figure(workplace, with_tiny, picture, capsys, asked):
    run(capsys, "explain", picture, "-t", "zebra,cup", "-m", "lrp,clrp1", "--maps", "why.npz")
    ((_, methods, rows),) = asked
    with np.load("why.npz", allow_pickle=False) as file:
        assert file["maps"].shape == (2, 2, 16, 16)
        assert file["methods"].tolist() == methods == ["LRP", "CLRP1"]
        assert file["names"].tolist() == ["zebra", "cup"]
        assert file["classes"].tolist() == [0, 7]
        assert file["photograph"].shape == (16, 16, 3)
        assert json.loads(str(file["captum_clrp"]))["settings"]["rules"] == "auto"
        for k, row in enumerate(rows):
            for m, one in enumerate(row.maps):
                np.testing.assert_allclose(file["maps"][k, m], one.sum(0), atol=1e-7)
            assert file["logits"][k] == pytest.approx(row.score)
    assert run(capsys, "explain", picture, "-t", "zebra", "--maps", "why.npz")[0] == 0  # its own file


def test_json_has_a_line_for_each_picture(workplace, with_tiny, picture, capsys):
    code, out, _ = run(capsys, "explain", picture, "-t", "zebra,3", "-m", "lrp,clrp1-s0.9", "--json")
    assert code == 0
    (line,) = out.splitlines()
    facts = json.loads(line)
    assert facts["output"] == "holiday_clrp.png"
    assert [one["name"] for one in facts["classes"]] == ["zebra", "crane"]
    assert len(facts["top"]) == 5
    for one in facts["classes"]:
        assert one["methods"]["LRP"]["sum"] + one["methods"]["LRP"]["absorbed"] == pytest.approx(one["logit"], rel=1e-5)
        told = one["methods"]["CLRP1 (strength 0.9)"]
        assert one["methods"]["LRP"]["signed"] is told["absorbed"] is None
        contrast = captum_clrp.ContrastiveLRP1(with_tiny.model, *with_tiny.bounds, strength=0.9)
        inputs = with_tiny.inputs(Image.open(picture).convert("RGB"))
        both = contrast.attribute(inputs, one["index"], relu_attributions=False)
        assert told["signed"] == pytest.approx(float(both.sum()), rel=1e-4)
        assert told["sum"] == pytest.approx(float(both.clamp(min=0).sum()), rel=1e-4)
        assert (one["remark"] is not None) == (one["logit"] < 0)


def test_the_report_is_one_page_that_needs_nothing_else(workplace, with_tiny, picture, capsys):
    other = workplace / "b<b>.png"
    other.write_bytes(picture.read_bytes())
    Path("broken.png").write_text("no picture")
    code, _, _ = run(capsys, "explain", picture, other, "broken.png", "-t", "zebra", "-o", ".", "--report", "all.html")
    assert code == 2  # for the broken one
    page = Path("all.html").read_text()
    assert page.count("<img") == page.count("data:image/webp;base64,") == 2
    assert "b&lt;b&gt;.png" in page
    assert "broken.png is no picture" in page
    assert "conv2d" in page  # the plan
    assert "<td>zebra</td>" in page
    assert all(f"<th>{head}</th>" in page for head in ("class", "logit", "method", "of score", "absorbed", "signed"))
    (numbers,) = set(re.findall(r"<td>LRP</td><td>(.+?)</td></tr>", page))
    total, of_score, absorbed, signed = numbers.split("</td><td>")
    assert float(of_score[:-1]) + float(absorbed[:-1]) == pytest.approx(
        100, abs=0.11
    )  # shares of one score, a digit each
    assert (float(total) > 0, signed) == (True, "-")
    assert not re.search(r"(src|href)=\"(?!data:)|url\(|<script|@import|https?://", page)
    data = re.findall(r"base64,([^\"]+)", page)[0]
    assert Image.open(io.BytesIO(base64.b64decode(data))).format == "WEBP"


def test_folders_patterns_and_standard_input(workplace, with_tiny, picture, capsys, monkeypatch):
    Path("photos").mkdir()
    Path("out").mkdir()
    for name in ("a.png", "b.JPG", "notes.txt", "a_clrp.png", ".hidden.png"):
        Path("photos", name).write_bytes(picture.read_bytes())
    assert run(capsys, "explain", "photos", "-m", "lrp", "-o", "out")[0] == 0
    for ours in ("why.png", "why.jpg", "why.webp"):  # by what stands in them
        assert run(capsys, "explain", picture, "-m", "lrp", "-o", f"photos/{ours}")[0] == 0
    assert run(capsys, "explain", "photos", "-m", "lrp", "-o", "out")[0] == 0
    assert sorted(p.name for p in Path("out").iterdir()) == ["a_clrp.png", "b_clrp.png"]
    assert run(capsys, "explain", "photos/b*", "-m", "lrp", "-o", "one.png")[0] == 0
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(picture.read_bytes()), isatty=lambda: False))
    code, out, _ = run(capsys, "explain", "-", "-m", "lrp")
    assert code == 0
    assert out.splitlines()[1] == "standard input"
    assert Path("stdin_clrp.png").exists()
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"nothing"), isatty=lambda: False))
    code, _, err = run(capsys, "explain", "-", "-m", "lrp")
    assert (code, err) == (
        2,
        "captum-clrp: standard input is no picture in a known format; give a JPEG, PNG, WebP, TIFF, BMP or GIF file\n",
    )


def test_each_picture_has_its_own_targets_and_batches_change_nothing(workplace, with_tiny, picture, capsys):
    Path("photos").mkdir()
    for k, name in enumerate("abc"):
        pixels = np.random.default_rng(k).integers(0, 256, (20, 20 + 3 * k, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"photos/{name}.png")
    Path("photos/targets.txt").write_text("# what is in them\na.png: zebra\nb.png: cup, Cardigan, top1\n")
    found = []
    for batch in (1, 2):
        code, out, _ = run(
            capsys, "explain", "photos", "--targets", "photos/targets.txt", "-o", "photos", "--json", "--batch", batch
        )
        assert code == 0
        found.append([json.loads(line) for line in out.splitlines()])
    one, two = found
    assert [[c["name"] for c in picture["classes"]][:2] for picture in one][:2] == [["zebra"], ["cup", "Cardigan"]]
    assert len(one[2]["classes"]) == 2  # the default, top2
    for alone, together in zip(one, two, strict=True):
        for a, b in zip(alone["classes"], together["classes"], strict=True):
            assert a["methods"]["CLRP1"]["sum"] == pytest.approx(b["methods"]["CLRP1"]["sum"], rel=1e-4)
    code, out, _ = run(capsys, "explain", "--targets", "photos/targets.txt", "-o", "photos", "--json")
    assert [json.loads(line)["image"] for line in out.splitlines()] == ["photos/a.png", "photos/b.png"]
    Path("bad.txt").write_text("a.png zebra\n")
    code, _, err = run(capsys, "explain", "--targets", "bad.txt")
    assert code == 2
    assert "line 1" in err


def test_targets_are_found_however_a_picture_is_named(workplace, with_tiny, picture, capsys):
    (workplace / "photos").mkdir()
    mine = workplace / "photos" / "a.png"
    mine.write_bytes(picture.read_bytes())
    Path("photos/t.txt").write_text("a.png: cup\n")
    for named in ("photos/a.png", mine, "photos/../photos/a.png"):
        code, out, _ = run(capsys, "explain", named, "-m", "lrp", "--targets", "photos/t.txt", "--json")
        assert [one["name"] for one in json.loads(out)["classes"]] == ["cup"]
    code, _, err = run(capsys, "explain", picture, "-m", "lrp", "--targets", "photos/t.txt")
    assert code == 2
    assert "--targets photos/t.txt names none of the pictures, but photos/a.png" in err


def test_style_sign_and_smoothing_reach_the_figure(workplace, with_tiny, picture, capsys, monkeypatch):
    seen = []
    draw = explained.draw_maps
    monkeypatch.setattr(explained, "draw_maps", lambda *a, **more: seen.append((a, more)) or draw(*a, **more))
    run(capsys, "explain", picture, "-m", "lrp", "--style", "contour", "--sign", "absolute")
    run(capsys, "explain", picture, "-m", "lrp", "--style", "heatmap")
    run(capsys, "explain", picture, "-m", "lrp", "--style", "heatmap", "--smooth", "1.5", "--opacity", "0.5")
    assert [(m["style"], m["sign"], m["smooth"], m["opacity"]) for _, m in seen] == [
        ("contour", "absolute", 3.0, 1.0),
        ("heatmap", "signed", 0.0, 1.0),
        ("heatmap", "signed", 1.5, 0.5),
    ]


def test_maps_on_the_whole_photograph(workplace, with_tiny, picture, capsys, asked):
    code, _, _ = run(capsys, "explain", picture, "-t", "zebra", "-m", "lrp", "--whole")
    assert code == 0
    ((_, _, (row,)),) = asked
    assert row.maps[0].shape == (20, 24)
    assert (row.maps[0][:, :2] == 0).all()  # cropped to 20 x 20
    assert row.maps[0][:, 4:20].any()


def test_methods_of_the_evaluation_stand_beside_the_contrasts(workplace, with_tiny, picture, capsys, asked):
    pytest.importorskip("torchmetrics")
    code, _, err = run(capsys, "explain", picture, "-t", "zebra", "-m", "clrp1,gradient,lrp-even")
    assert (code, err) == (0, "")
    ((_, methods, (row,)),) = asked
    assert methods == ["CLRP1", "gradient", "lrp-even"]
    inputs = with_tiny.inputs(Image.open(picture).convert("RGB"))
    lrp = captum_clrp.LRPZBeta(with_tiny.model, *with_tiny.bounds, avg_pool="even").attribute(inputs, 0)[0].sum(0)
    found = row.maps[2].sum(0)
    np.testing.assert_allclose(found, lrp.numpy() * np.sign(row.score), atol=1e-6)


@pytest.fixture
def passes(with_tiny):
    """Grows with every forward pass of the network."""
    seen = []
    with_tiny.model[0].register_forward_hook(lambda *_: seen.append(1))
    return seen


@pytest.mark.parametrize(
    ("methods", "count"),
    [
        ("lrp,clrp1,clrp2,clrp1-s0.9", 1),
        ("lrp,clrp1-even,clrp1,lrp-even,rivals2-even", 2),  # average pooling is shared out in two ways
        ("clrp1,gradient,input-x-gradient", 2),
        ("gradient", 2),  # which classes are the leading ones; their gradients
    ],
)
def test_methods_that_are_alike_share_the_forward_pass(workplace, passes, picture, capsys, methods, count):
    if "gradient" in methods:
        pytest.importorskip("torchmetrics")
    assert run(capsys, "explain", picture, "-m", methods)[0] == 0
    assert len(passes) == count


def close(told, expected):
    """Whether numbers that were told are the same, and the same ones are missing."""
    known = {key: value for key, value in expected.items() if value is not None}
    return {key: value for key, value in told.items() if value is not None} == pytest.approx(known, rel=1e-5, abs=1e-7)


def test_a_name_with_settings_is_the_method_with_these_options(workplace, with_tiny, picture, capsys):
    """The same numbers in the same words everywhere, whether a setting stands in the name or in an option."""
    given = {
        "lrp": [],
        "clrp1": [],
        "rivals2": [],
        "lrp-even": ["--avg-pool", "even"],
        "clrp1-s0.9-gamma": ["--rules", "gamma"],
        "clrp2-conserve": ["--conserve"],
    }
    code, out, _ = run(
        capsys,
        "explain",
        picture,
        "-t",
        "zebra,3",
        "-m",
        ",".join(given),
        "--json",
        "--maps",
        "m.npz",
        "--report",
        "r.html",
    )
    assert code == 0
    together = json.loads(out)
    assert json.loads(str(np.load("m.npz")["captum_clrp"])) == {
        k: v for k, v in together.items() if k not in ("output", "maps")
    }
    described, page = Image.open("holiday_clrp.png").info["Description"], Path("r.html").read_text()
    assert together["settings"] == {"precision": "float32", "bounds": "pixels"}  # in which they agree
    for k, (name, options) in enumerate(given.items()):
        plain = re.sub("-(even|gamma|conserve)", "", name)
        code, out, _ = run(capsys, "explain", picture, "-t", "zebra,3", "-m", plain, *options, "--json")
        assert code == 0
        shown, alone = list(together["methods"])[k], json.loads(out)
        ((called, settings),) = alone["methods"].items()
        assert together["methods"][shown] == settings == alone["settings"]
        for of_all, of_one in zip(together["classes"], alone["classes"], strict=True):
            told, expected = of_all["methods"][shown], of_one["methods"][called]
            assert close(told, expected)
            assert [told[key] is None for key in ("share", "absorbed_share", "signed_share")] == [
                False,
                name[:3] != "lrp",
                name[:3] == "lrp",
            ]
            lrp = told["absorbed_share"] is not None
            assert told["share"] + told["absorbed_share"] == pytest.approx(1, abs=1e-5) if lrp else told["share"] > 0
            of = "absorbed" if lrp else "signed"
            said = f"{shown} sum {told['sum']:.3g} ({told['share']:.1%} of score), "
            share = round(told[f"{of}_share"], 2 if lrp else 3) + 0  # no minus before a zero
            said += f"{share:.0%} absorbed" if lrp else f"signed {share:.1%}"
            assert said in described
            assert f"<td>{shown}</td><td>{told['sum']:.3g}</td><td>{told['share']:.1%}</td>" in page
    assert (
        "LRP, CLRP1, rivals 2: rules auto (paper), average pooling proportional, conserve off, bounds pixels; "
        in described
    )
    assert "; lrp-even: rules auto (paper), average pooling even, conserve off, bounds pixels; " in described
    assert [one["composite"] for one in together["methods"].values()].count("gamma") == sum("gamma" in n for n in given)
    assert [one["strength"] for one in together["methods"].values()] == [None, 1, 1, None, 0.9, 1]
    assert page.count("The rule of every operation") == 3  # auto with either pooling, gamma


def test_what_is_no_relevance_has_no_share_of_the_score(workplace, with_tiny, picture, capsys):
    pytest.importorskip("torchmetrics")
    names = ["gradient", "grad-cam", "random", "captum:Saliency", "sglrp"]
    code, out, _ = run(capsys, "explain", picture, "-t", "zebra", "-m", ",".join(names), "--json", "--report", "r.html")
    assert code == 0
    found = json.loads(out)
    for shown, told in found["classes"][0]["methods"].items():
        assert told["share"] is told["absorbed_share"] is told["signed_share"] is None
        assert (found["methods"][shown] is None) == (shown != "SGLRP")  # which is relevance, of another unit
        assert (
            f"{shown} sum {told['sum']:.3g} (no share of the score)"
            in Image.open("holiday_clrp.png").info["Description"]
        )
        assert f"<td>{shown}</td><td>{told['sum']:.3g}</td><td>-</td><td>-</td><td>-</td>" in Path("r.html").read_text()
    code, out, _ = run(capsys, "explain", picture, "-t", "zebra", "-m", "gradient", "--report", "r.html")
    assert Image.open("holiday_clrp.png").info["Description"].startswith("tiny, weights: random; drawn as")  # no rules
    assert "The rule of every operation" not in Path("r.html").read_text()


def test_a_strength_is_for_each_contrast_that_has_none(workplace, with_tiny, picture, capsys):
    given = ["-m", "clrp1-even,clrp1-s0.5-even,lrp-even", "--strength", "0.9", "--json"]
    code, out, _ = run(capsys, "explain", picture, "-t", "3", *given)
    assert code == 0
    assert list(json.loads(out)["methods"]) == ["clrp1-even (strength 0.9)", "clrp1-s0.5-even", "lrp-even"]
    code, other, _ = run(capsys, "explain", picture, "-t", "3", "-m", "clrp1-s0.9-even", "--json")
    ((_, expected),) = json.loads(other)["classes"][0]["methods"].items()
    assert close(next(iter(json.loads(out)["classes"][0]["methods"].values())), expected)


def test_methods_that_look_at_a_layer_are_told_which(workplace, with_tiny, picture, capsys, asked):
    pytest.importorskip("torchmetrics")
    from captum.attr import LayerGradCam

    model, inputs = with_tiny.model, with_tiny.inputs(Image.open(picture).convert("RGB"))
    code, _, err = run(
        capsys, "explain", picture, "-t", "zebra", "-m", "grad-cam,captum:GuidedGradCam", "--cam-layer", "0"
    )
    assert (code, err) == (0, "")
    ((_, methods, (row,)),) = asked
    assert methods == ["grad-cam", "captum:GuidedGradCam"]
    by_captum = LayerGradCam(model, model[0]).attribute(inputs, 0, relu_attributions=True)
    np.testing.assert_allclose(row.maps[0].sum(0), by_captum.detach()[0, 0], rtol=1e-4, atol=1e-7)
    for arguments, says in (
        (["-m", "grad-cam", "--cam-layer", "conv9"], "--cam-layer: tiny has no module 'conv9'"),
        (["-m", "clrp1", "--cam-layer", "0"], "--cam-layer is for grad-cam and attributions of layers"),
        (["-m", "captum:GuidedGradCam"], "explains a layer, and none is given"),
    ):
        code, _, err = run(capsys, "explain", picture, *arguments)
        assert code == 2
        assert says in err
        assert err.count("\n") == 1


def test_a_contrast_that_is_empty_says_so_on_the_picture_and_the_terminal(workplace, with_tiny, picture, capsys, asked):
    with torch.no_grad():
        with_tiny.model[-1].weight[:], with_tiny.model[-1].bias[:] = 0, 1  # the bias keeps all of the score
    code, out, _ = run(capsys, "explain", picture, "-t", "zebra", "-m", "lrp,clrp1,sglrp")
    assert code == 0
    ((_, _, (row,)),) = asked
    for told in (row.remark, out):
        assert "zero everywhere by CLRP1, SGLRP: nothing has more relevance for the class" in told
    assert "SGLRP sum 0 (no share of the score)\n" in out


def test_a_score_of_zero_says_why_there_is_nothing(workplace, with_tiny, picture, capsys):
    with torch.no_grad():
        with_tiny.model[-1].weight[:], with_tiny.model[-1].bias[:] = 0, 0  # as torchvision's ViT starts
    code, out, _ = run(capsys, "explain", picture, "-t", "zebra", "-m", "lrp", "--json")
    assert code == 0
    (zebra,) = json.loads(out)["classes"]
    assert zebra["remark"] == "has a score of 0: there is no relevance to be shared out"
    assert (zebra["methods"]["LRP"]["sum"], zebra["methods"]["LRP"]["share"]) == (0, None)


@pytest.mark.filterwarnings("ignore:precision=.bfloat16")
def test_relevance_in_bfloat16_is_said(workplace, with_tiny, picture, capsys):
    code, _, _ = run(capsys, "explain", picture, "-t", "3", "--maps", "single.npz")
    assert code == 0
    code, _, _ = run(capsys, "explain", picture, "-t", "3", "--precision", "bfloat16", "--maps", "brief.npz")
    assert code == 0
    assert "precision bfloat16" in Image.open("holiday_clrp.png").info["Description"]
    single, brief = np.load("single.npz")["maps"], np.load("brief.npz")["maps"]
    distance = np.linalg.norm(single - brief) / np.linalg.norm(single)
    assert 0 < distance < 0.05


def test_a_mistyped_method_is_told_what_was_meant_without_the_evaluation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "captum_clrp.evaluation.methods", None)
    assert main(["explain", "--method", "lpr"]) == 2
    told = capsys.readouterr().err
    assert "unknown method lpr; did you mean lrp? give some of: lrp," in told
    assert 'pip install ".[eval]"' in told
