import pytest

from captum_clrp.classifiers import imagenet_class_names
from captum_clrp.cli.errors import CommandError
from captum_clrp.cli.targets import parse_targets

NAMES = ["zebra", "African elephant", "crane", "crane", "Cardigan", "cardigan", *"abcdefghijklmnopqrst"]
RANKING = [3, 1, 0, 2, *range(4, len(NAMES))]


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        ("top2", [3, 1]),
        ("TOP1", [3]),
        ("zebra, African elephant", [0, 1]),
        ("african_elephant,0", [1, 0]),
        ("top2,zebra,1", [3, 1, 0]),  # asked for twice, explained once
        ("Cardigan", [4]),
        ("cardigan", [5]),
    ],
)
def test_targets_as_people_write_them(text, classes):
    assert parse_targets(text, NAMES).of(RANKING) == classes


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("zebraa", "nearest names are: zebra"),
        ("elephant", "African elephant"),
        ("crane", "index 2 or 3"),
        ("CARDIGAN", "index 4 or 5"),
        ("26", "classes 0 to 25"),
        ("-1", "classes 0 to 25"),
        ("top0", "top1 to top20"),
        ("top27", "top1 to top20"),
        ("top15,top6", "at most 20"),
        (" , ", "names no class"),
        ("@@@@@", "no name is like it"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_way_on(text, says):
    with pytest.raises(CommandError, match=says):
        parse_targets(text, NAMES)


def test_wordnet_numbers_name_classes_of_ilsvrc():
    assert parse_targets("n02391049", imagenet_class_names()).of(range(1000)) == [340]
    for others in (NAMES, [f"class {i}" for i in range(1000)]):
        with pytest.raises(CommandError, match="no class 'n02391049'"):
            parse_targets("n02391049", others)


def test_other_classes_of_which_a_name_is_a_part_are_told():
    with pytest.warns(UserWarning, match="'maillot' is class 0, maillot; there are also maillot tank suit"):
        assert parse_targets("maillot", ["maillot", "maillot tank suit"]).of([0, 1]) == [0]
