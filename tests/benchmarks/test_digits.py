"""The digits benchmark: its data, its measures on maps made by hand, its weights, and the command on one network."""

import gzip
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("sklearn")
pytest.importorskip("timm")

from sklearn.datasets import load_digits

from benchmarks.digits import measure, methods, scores, train
from benchmarks.digits.collages import draw
from benchmarks.digits.networks import NETWORKS, build
from captum_clrp.errors import UnsupportedOperationError

LINES = json.loads((train.WEIGHTS / "accuracy.json").read_text())
WEIGHTS = [(line["network"], line["seed"]) for line in LINES]


def cells_of(image):
    """Ink from 0 to 16 in each cell, row by row; exact, as 16 levels are."""
    ink = (image[0].numpy() + 1) * 8
    return [ink[r : r + 8, c : c + 8] for r in (0, 8) for c in (0, 8)]


def moves(digit):
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            moved = np.zeros((8, 8))
            for y in range(8):
                for x in range(8):
                    if 0 <= y + dy < 8 and 0 <= x + dx < 8:
                        moved[y + dy, x + dx] = digit[y, x]
            yield moved


@pytest.mark.parametrize(("split", "where"), [("train", slice(0, 1300)), ("held-out", slice(1300, 1797))])
def test_each_cell_holds_what_its_label_says(split, where):
    data = load_digits()
    digits, classes = data.images[where], data.target[where]
    collages = draw(np.random.default_rng(5), 20, split)
    assert collages.images.shape == (20, 1, 16, 16)
    assert collages.images.dtype == torch.float32
    blank = cluttered = 0
    for image, labels in zip(collages.images, collages.labels.tolist(), strict=True):
        for cell, label in zip(cells_of(image), labels, strict=True):
            if label >= 0:
                assert any((cell == moved).all() for digit in digits[classes == label] for moved in moves(digit))
            elif not cell.any():
                blank += 1
            else:  # the quarters of one digit, turned: what each holds in all turns together is kept
                cluttered += 1
                assert any(sorted(quarters(cell)) == sorted(quarters(digit)) for digit in digits)
        there = [label for label in labels if label >= 0]
        assert 1 <= len(there) == len(set(there))
    assert 0.4 < cluttered / (blank + cluttered) < 0.95


def quarters(cell):
    """Each quarter as the smallest of its four turns."""
    parts = [cell[r : r + 4, c : c + 4] for r in (0, 4) for c in (0, 4)]
    return [min(np.rot90(part, k).flatten().tolist() for k in range(4)) for part in parts]


def test_present_classes_and_number_of_digits():
    for count in (1, 2, 4):
        collages = draw(np.random.default_rng(0), 50, "train", count)
        assert (collages.labels >= 0).sum(1).tolist() == [count] * 50
        for labels, present in zip(collages.labels.tolist(), collages.present, strict=True):
            assert present.nonzero()[:, 0].tolist() == sorted(label for label in labels if label >= 0)
    assert set((draw(np.random.default_rng(0), 200, "train").labels >= 0).sum(1).tolist()) == {1, 2, 3, 4}
    places = (draw(np.random.default_rng(0), 400, "train", 1).labels >= 0).float().mean(0)
    assert (places - 0.25).abs().max() < 0.09  # four standard errors


def test_equal_seeds_draw_equal_collages():
    first, second, other = (draw(np.random.default_rng(seed), 5, "train") for seed in (1, 1, 2))
    assert first.images.equal(second.images)
    assert not first.images.equal(other.images)


@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_takes_a_collage(name):
    network = build(name)
    assert network(torch.zeros(2, 1, 16, 16)).shape == (2, 10)
    assert 2 * sum(p.numel() for p in network.parameters()) < 1.2e6


def test_a_network_of_another_name():
    with pytest.raises(ValueError, match=r"no network is called 'vgg'; there are cnn-relu, "):
        build("vgg")


@pytest.fixture
def one_map():
    """Two pixels in the first cell, one in the second, a negative one in the last."""
    heat = torch.zeros(1, 16, 16)
    heat[0, 0, 0], heat[0, 1, 1], heat[0, 7, 8], heat[0, 15, 15] = 4.0, -1.0, 2.0, -9.0
    return heat


def test_sums_of_patches(one_map):
    patches = scores.by_patches(one_map)
    expected = torch.zeros(1, 4, 4)
    expected[0, 0, 0], expected[0, 1, 2], expected[0, 3, 3] = 3.0, 2.0, -9.0
    assert patches.equal(expected)


def test_share_and_pointing(one_map):
    patches = scores.by_patches(one_map)
    every = torch.arange(4)
    assert scores.share(one_map.expand(4, -1, -1), every).tolist() == pytest.approx([4 / 6, 2 / 6, 0, 0])
    assert scores.share(patches.expand(4, -1, -1), every).tolist() == pytest.approx([3 / 5, 2 / 5, 0, 0])
    assert scores.pointing(patches.expand(4, -1, -1), every).tolist() == [1, 0, 0, 0]
    third = torch.zeros(1, 16, 16)
    third[0, 12, 3] = 1.0  # below, left
    assert scores.share(third.expand(4, -1, -1), every).tolist() == [0, 0, 1, 0]


def test_a_map_without_positive_relevance_and_a_tie_point_nowhere(one_map):
    for heat in (torch.zeros(4, 16, 16), -torch.ones(4, 16, 16)):
        assert scores.share(heat, torch.arange(4)).tolist() == [0, 0, 0, 0]
        assert scores.pointing(heat, torch.arange(4)).tolist() == [0, 0, 0, 0]
    even = torch.ones(4, 16, 16)
    assert scores.share(even, torch.arange(4)).tolist() == [0.25] * 4
    assert scores.pointing(even, torch.arange(4)).tolist() == [0, 0, 0, 0]


def test_similarity_is_the_mean_over_pairs_of_classes():
    maps = torch.zeros(1, 3, 16, 16)
    maps[0, 0, 0, 0], maps[0, 1, 0, 0], maps[0, 2, 5, 5] = 1.0, -3.0, 2.0
    assert scores.similarity(maps).tolist() == pytest.approx([-1 / 3])  # -1, 0, 0
    assert scores.similarity(torch.ones(2, 4, 16, 16)).tolist() == pytest.approx([1, 1])
    assert scores.similarity(1e-20 * torch.ones(1, 4, 16, 16)).tolist() == pytest.approx([1])


def test_faithfulness_of_the_one_patch_that_counts():
    def network(images):  # class 0 is the brightness of the patch in row 1, column 2, from 0 to 1
        bright = (images[:, 0, 4:8, 8:12].mean((1, 2)) + 1) / 2
        return torch.stack([bright, torch.zeros_like(bright)], 1)

    right, wrong = torch.zeros(16, 16), torch.zeros(16, 16)
    right[5, 9] = 1.0
    wrong[5, 9] = -1.0
    images, targets = torch.ones(3, 1, 16, 16), torch.tensor([0, 0, 1])
    found = scores.faithfulness(network, images, targets, torch.stack([right, wrong, right]))
    # The margin is half of the brightness: 1/2 as long as the patch stands, 0 after; the other class sees the opposite.
    assert found.tolist() == pytest.approx([0.5, -0.5, -0.5])
    # Seventh of 16: replaced in steps 7 to 15 of most relevant first, and 10 to 15 of least relevant first.
    seventh = -torch.arange(16.0).view(4, 4).repeat_interleave(4, 0).repeat_interleave(4, 1)
    (value,) = scores.faithfulness(network, images[:1], targets[:1], seventh[None]).tolist()
    assert value == pytest.approx(0.5 * (9 / 15 - 6 / 15))


def test_training_is_reproducible_and_weights_come_back(tmp_path):
    first, second, other = (train.train("cnn-relu", seed, steps=3) for seed in (0, 0, 1))
    assert all(a.equal(b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True))
    assert not first[0].weight.equal(other[0].weight)
    for seed, network in ((1, other), (0, first), (0, first)):
        line = train.save("cnn-relu", seed, 3, network, tmp_path)
    loaded = train.load("cnn-relu", 0, tmp_path)
    assert not loaded.training
    assert loaded[0].weight.equal(first[0].weight.half().float())
    lines = json.loads((tmp_path / "accuracy.json").read_text())
    assert [(entry["network"], entry["seed"]) for entry in lines] == [("cnn-relu", 0), ("cnn-relu", 1)]
    assert lines[0] == line
    assert line["accuracy"] == train.accuracy(loaded)


def test_weights_and_their_lines_belong_together():
    files = {path.name for path in train.WEIGHTS.glob("*.pt")}
    assert files == {f"{name}-{seed}.pt" for name, seed in WEIGHTS}
    assert len(set(WEIGHTS)) == len(WEIGHTS)
    assert max(path.stat().st_size for path in train.WEIGHTS.glob("*.pt")) < 1.2e6
    for line in LINES:
        assert line["steps"] == train.STEPS[line["network"]]
        assert line["parameters"] == sum(p.numel() for p in build(line["network"]).parameters())


@pytest.mark.parametrize(("name", "seed"), WEIGHTS)
def test_weights_reach_their_accuracy(name, seed):
    (stated,) = (line["accuracy"] for line in LINES if (line["network"], line["seed"]) == (name, seed))
    # 200 collages of each kind: four standard errors of a share of 0.95 are 0.06.
    for kind, value in train.accuracy(train.load(name, seed), collages=200).items():
        assert value == pytest.approx(stated[kind], abs=0.06)


def test_a_stated_accuracy_is_exact():
    assert WEIGHTS[0] == ("cnn-relu", 0)
    # Other processors round otherwise, which may turn the order of two near classes: two of 1000 collages.
    assert train.accuracy(train.load(*WEIGHTS[0])) == pytest.approx(LINES[0]["accuracy"], abs=0.002)


def test_selected_collages_are_understood():
    network = train.load("cnn-relu", 0)
    images, labels = measure.select(network, 12)
    assert len(images) == len(labels) == 12
    logits = network(images)
    assert logits.topk(4).indices.sort(1).values.equal(labels.sort(1).values)
    assert logits.gather(1, labels).min() > 0
    with pytest.raises(ValueError, match="of 1200 collages the network finds all four digits in 0; 12 are needed"):
        measure.select(lambda images: -torch.ones(len(images), 10), 12)


def test_patches_by_hand_score_as_they_should():
    """A map that shows the target's cell, and one that shows the next."""
    network = train.load("cnn-relu", 0)
    images, labels = measure.select(network, 4)

    def shown(shift):
        maps = torch.zeros(16, 16, 16)
        for i in range(16):
            row, column = divmod((i + shift) % 4, 2)
            maps[i, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 1.0
        return lambda images, targets: maps

    right, wrong = (measure.score(network, images, labels, shown(shift)) for shift in (0, 1))
    assert right["patches"] == right["pixels"] == right["pointing"] == [1.0] * 4
    assert wrong["patches"] == wrong["pixels"] == wrong["pointing"] == [0.0] * 4
    assert right["similarity"] == wrong["similarity"] == [0.0] * 4
    assert min(right["faithfulness"]) > 4 > max(wrong["faithfulness"])


def test_the_command_measures_and_writes(tmp_path, capsys):
    arguments = ["--networks", "cnn-relu", "--rules", "paper", "--methods", "random", "CLRP1", "LRP"]
    measure.main([*arguments, "--collages", "4", "--output", str(tmp_path)])
    assert "cnn-relu-0 paper CLRP1: patches 0.9" in capsys.readouterr().out
    document = json.loads((tmp_path / "digits.json").read_text())
    seeds = [seed for name, seed in WEIGHTS if name == "cnn-relu"]
    by_method = {line["method"]: line for line in document["rows"]}
    assert set(by_method) == {"random", "CLRP1", "LRP"}
    contrast, plain = by_method["CLRP1"], by_method["LRP"]
    assert (contrast["network"], contrast["rules"], contrast["seeds"]) == ("cnn-relu", "paper", seeds)
    assert by_method["random"]["rules"] is None
    assert contrast["patches"]["mean"] > 0.95 > 0.6 > plain["patches"]["mean"] > by_method["random"]["patches"]["mean"]
    assert contrast["patches"]["n"] == 4 * len(seeds)
    assert plain["arrives"]["mean"] == pytest.approx(1, abs=1e-4)  # a network that conserves, in float32
    assert "arrives" not in contrast
    assert document["accuracy"] == [line for line in LINES if line["network"] == "cnn-relu"]

    rows = json.loads(gzip.decompress((tmp_path / "digits-collages.json.gz").read_bytes()))
    values = [v for row in rows if row["method"] == "CLRP1" for v in row["collages"]["patches"]]
    assert len(values) == 4 * len(seeds)
    assert np.mean(values) == pytest.approx(contrast["patches"]["mean"], abs=1e-3)
    error = np.std(values, ddof=1) / len(values) ** 0.5
    assert error == pytest.approx(contrast["patches"]["error"], abs=1e-3)
    text = (tmp_path / "digits.md").read_text()
    assert f"| paper CLRP1 | {contrast['patches']['mean']:.2f} ± {contrast['patches']['error']:.2f} |" in text


def test_what_is_not_measured_again_is_kept_and_what_was_tried_stands_behind_the_named_rules(tmp_path):
    common = ["--networks", "cnn-tanh", "--collages", "2", "--output", str(tmp_path)]
    measure.main([*common, "--rules", "gamma", "--methods", "CLRP1", "LRP"])
    before = json.loads((tmp_path / "digits.json").read_text())["rows"]
    values = json.loads(gzip.decompress((tmp_path / "digits-collages.json.gz").read_bytes()))
    measure.main([*common, "--rules", "gamma, z+ in early layers", "paper", "gamma", "--methods", "CLRP1", "--keep"])
    after = json.loads((tmp_path / "digits.json").read_text())["rows"]
    cases = [(row["rules"], row["method"]) for row in after]
    assert cases == [("paper", "CLRP1"), ("gamma", "LRP"), ("gamma", "CLRP1"), ("gamma, z+ in early layers", "CLRP1")]
    assert [row for row in after if row in before] == sorted(before, key=lambda row: row["method"] == "CLRP1")
    kept = json.loads(gzip.decompress((tmp_path / "digits-collages.json.gz").read_bytes()))
    assert all(row in kept for row in values)
    assert len(kept) == 2 * len(values)


def test_what_was_tried_is_what_its_name_says():
    assert methods.TRIED["gamma, sums 0.25"].sums.gamma == 0.25
    assert methods.TRIED["gamma, sums 0.25"].linear.gamma == 0.1
    network = train.load("vit", 0)
    early = methods._with_early_zplus(network)
    own = [name for name, module in early.named_modules() if hasattr(module, "rule")]
    assert own
    assert all(name.startswith(("conv_proj", "encoder.layers.encoder_layer_")) for name in own)
    assert not any(hasattr(module, "rule") for module in network.modules())


@pytest.mark.parametrize("name", ["convnext-batchnorm", "cnn-linear-end", "cnn-tanh"])
def test_a_mean_of_signed_features_needs_the_gamma_composite(name):
    network = train.load(name, 0)
    images, labels = measure.select(network, 4)

    def share(rules):
        values = measure.score(network, images, labels, lambda x, t: methods.relevance("CLRP1", rules, network, x, t))
        return np.mean(values["patches"])

    assert share("paper") < 0.25  # chance, or worse
    assert share("auto") > 0.8


def test_refusals_and_broken_maps_are_rows(monkeypatch, tmp_path):
    def relevance(method, rules, network, images, targets):
        if rules == "none":
            raise UnsupportedOperationError("attention is not supported")
        return torch.full((len(images), 16, 16), torch.nan)

    monkeypatch.setattr(measure, "relevance", relevance)
    arguments = ["--networks", "cnn-relu", "--rules", "none", "nan", "--methods", "LRP"]
    measure.main([*arguments, "--collages", "2", "--output", str(tmp_path)])
    refused, failed = json.loads((tmp_path / "digits.json").read_text())["rows"]
    assert refused["refused"] == "attention is not supported"
    assert failed["failed"] == "8 of 8 maps are not finite"
    text = (tmp_path / "digits.md").read_text()
    assert "| none LRP | refused |" in text
    assert "| nan LRP | failed |" in text


def test_baselines_leave_images_alone():
    network = train.load("cnn-relu", 0)
    images, labels = measure.select(network, 2)
    before = images.clone()
    for name in methods.BASELINES.keys() - methods.ONLY_FOR:
        maps = methods.baseline(name, network, images, labels[:, 0])
        assert maps.shape == (2, 16, 16)
        assert maps.isfinite().all()
        assert not maps.requires_grad
    assert images.equal(before)
    assert not images.requires_grad
    # Occlusion of a patch is the drop of the logit, for each of its pixels.
    hidden = images[:1].clone()
    hidden[:, :, 4:8, 12:16] = -1
    drop = (network(images[:1]) - network(hidden))[0, labels[0, 0]]
    heat = methods.baseline("occlusion of patches", network, images, labels[:, 0])[0, 4:8, 12:16]
    assert torch.allclose(heat, drop.expand(4, 4), atol=1e-4)  # logits of about 10, in float32


class _OneAttention(torch.nn.Module):
    """One layer of attention, a class token in front or not, whose gradient can be written down."""

    def __init__(self, class_token):
        super().__init__()
        count = 16 + class_token
        self.tokens = torch.nn.Parameter(torch.randn(class_token, 3))
        self.query, self.key, self.value = (torch.nn.Parameter(torch.randn(3, 3)) for _ in range(3))
        self.head = torch.nn.Parameter(torch.randn(count, 3, 10))

    def forward(self, images):
        patches = images.unfold(2, 4, 4).unfold(3, 4, 4).sum((-1, -2)).flatten(1)[..., None] * torch.ones(3)
        x = torch.cat([self.tokens.expand(len(images), -1, -1), patches], 1)
        heads = ((x @ w)[:, None] for w in (self.query, self.key, self.value))
        return torch.einsum("nqd,qdk->nk", F.scaled_dot_product_attention(*heads)[:, 0], self.head)


@pytest.mark.parametrize("class_token", [0, 1])
def test_gradient_times_attention_is_the_formula(class_token):
    network = _OneAttention(class_token).double()
    images, targets = torch.randn(2, 1, 16, 16, dtype=torch.float64), torch.tensor([3, 7])
    maps = methods.baseline("gradient x attention", network.double(), images, targets)
    for i, target in enumerate(targets):
        patches = images[i, 0].reshape(4, 4, 4, 4).sum((1, 3)).flatten()[:, None] * torch.ones(3)
        x = torch.cat([network.tokens, patches])
        a = ((x @ network.query) @ (x @ network.key).T / 3**0.5).softmax(1)
        gradient = network.head[:, :, target] @ (x @ network.value).T  # of the sum over q, k of head_q . (a_qk v_k)
        positive = (a * gradient).clamp(min=0)  # R = 1 + this, less 1
        expected = positive[0, 1:] if class_token else positive.mean(0)
        by_patch = expected.detach().reshape(4, 4).repeat_interleave(4, 0).repeat_interleave(4, 1)
        torch.testing.assert_close(maps[i], by_patch.float())


def test_gradient_times_attention_rolls_out_over_layers():
    """Against timm's own attention weights, where its attention is not fused."""
    network = train.load("vit-mean", 0)
    images, labels = measure.select(network, 2)
    fused = F.scaled_dot_product_attention
    maps = methods.baseline("gradient x attention", network, images, labels[:, 2])
    assert F.scaled_dot_product_attention is fused

    weights = []
    for block in network.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda module, inputs, output: weights.append(inputs[0]))
    network(images).gather(1, labels[:, 2:3]).sum().backward(inputs=weights)
    assert len(weights) == 6
    for i, found in enumerate(maps):
        relevance = torch.eye(16)
        for a in weights:
            relevance = (torch.eye(16) + (a * a.grad)[i].relu().mean(0)) @ relevance
        expected = (relevance - torch.eye(16)).mean(0).detach().reshape(4, 4)
        torch.testing.assert_close(found[::4, ::4], expected, rtol=1e-4, atol=1e-5)


def test_baselines_that_are_not_for_all_networks_have_cells_where_they_are(tmp_path, monkeypatch, capsys):
    def missing(network, images, targets):
        raise ImportError("No module named 'lxt'")

    monkeypatch.setitem(methods.BASELINES, "LXT CP-LRP", missing)
    arguments = ["--networks", "vit", "swin", "cnn-relu", "--methods", "random", "gradient x attention", "LXT CP-LRP"]
    measure.main([*arguments, "--collages", "2", "--output", str(tmp_path)])
    text = (tmp_path / "digits.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| gradient x attention"))
    cells = [cell.strip() for cell in row.strip("|").split("|")][1:]
    assert cells[0] == ""
    assert cells[1].startswith("0.")
    assert cells[2] == "n/a"
    assert "LXT" not in text
    assert "vit-0 LXT CP-LRP: left out, since No module named 'lxt'" in capsys.readouterr().out
