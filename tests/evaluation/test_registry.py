"""Classes by name: what is found, what is refused, and who may take a name."""

import pytest

from captum_clrp.errors import InvalidInputError
from captum_clrp.evaluation import METRICS, MapMetric, Option, PointingGame, Quantity
from captum_clrp.evaluation.datasets import DATASETS, Embedded, ImageFolder, find_dataset
from captum_clrp.evaluation.registry import Registry, source_checksum


def test_a_class_is_found_by_its_name_or_by_where_it_is():
    assert METRICS.find("pointing") is PointingGame
    assert METRICS.find("captum_clrp.evaluation.metrics.pointing_game:PointingGame") is PointingGame
    assert list(METRICS) == [kind.name for kind in METRICS.values()]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("point", "unknown metric 'point'; choose from "),
        ("no_such_module:X", "cannot be imported"),
        ("captum_clrp.evaluation:NoSuch", "cannot be imported"),
        ("captum_clrp.evaluation:MapMetric", "no metric with a name of its own"),
        ("captum_clrp.evaluation:Embedded", "no metric"),
    ],
)
def test_what_is_no_metric_is_refused(text, words):
    with pytest.raises(InvalidInputError, match=words):
        METRICS.find(text)


def test_a_name_is_taken_once_but_a_class_may_be_defined_again():
    registry: Registry[object] = Registry("thing")

    def define() -> type:
        class Thing:
            pass

        return Thing

    first, again = define(), define()
    registry.add("thing", first)
    registry.add("thing", again)
    assert registry["thing"] is again

    class Other:
        pass

    with pytest.raises(InvalidInputError, match="the thing 'thing' of .* would take the place of"):
        registry.add("thing", Other)


def test_a_metric_without_a_name_is_not_entered():
    before = dict(METRICS)

    class Nameless(MapMetric):
        quantities = (Quantity("x", "x"),)

    assert before == METRICS
    assert Nameless not in METRICS.values()


def test_defaults_of_options_are_those_of_the_constructor():
    class Kind:
        def __init__(self, size: int = 9) -> None:
            pass

    option = Option("patch", "side", int, "SIDE", keyword="size")
    assert (option.argument, option.default(Kind)) == ("size", 9)
    assert Option("patch", "side").argument == "patch"


def test_which_dataset_a_text_means(tmp_path):
    assert find_dataset("embedded") == (Embedded, "")
    assert find_dataset("voc07:/data/voc") == (DATASETS["voc07"], "/data/voc")
    assert find_dataset("voc07") == (DATASETS["voc07"], "")
    assert find_dataset("photographs/mine") == (ImageFolder, "photographs/mine")
    assert find_dataset("captum_clrp.evaluation:VOC2007:some/folder") == (DATASETS["voc07"], "some/folder")
    (tmp_path / "odd:name").mkdir()
    assert find_dataset(f"{tmp_path}/odd:name") == (ImageFolder, f"{tmp_path}/odd:name")


def test_the_checksum_is_of_the_file_as_it_is():
    assert source_checksum("captum_clrp.evaluation.registry") == source_checksum("captum_clrp.evaluation.registry")
    assert len(source_checksum("captum_clrp.evaluation.registry") or "") == 16
    assert source_checksum("no.such.module") is None
