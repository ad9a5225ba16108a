import pickle
from typing import Literal

import pytest

from captum_clrp.errors import (
    ClassifierError,
    ContrastiveLRPError,
    InvalidInputError,
    check_choice,
    how_to_install,
    nearest,
)


def test_a_typing_error_finds_its_word_first():
    assert nearest("zebraa", ["zero", "zebra", "bear"])[0] == "zebra"


def test_whole_words_come_before_parts_of_words():
    assert nearest("cat", ["polecat", "tiger cat", "dog"])[:2] == ["tiger cat", "polecat"]


def test_nothing_alike_finds_nothing_and_case_is_kept():
    assert nearest("xyzzy", ["zebra"]) == []
    assert nearest("african", ["African elephant"]) == ["African elephant"]


def test_no_more_than_asked_for():
    assert len(nearest("a", [f"a{i}" for i in range(20)], count=4)) == 4


def test_what_a_classifier_lacks_travels_between_processes():
    error = pickle.loads(pickle.dumps(ClassifierError("no such weights", "weights")))
    assert (str(error), error.argument) == ("no such weights", "weights")
    assert isinstance(error, ContrastiveLRPError)


def test_a_hint_installs_from_a_checkout_as_the_readme_does():
    assert how_to_install("eval") == 'in a checkout of captum_clrp run: pip install ".[eval]"'


def test_a_word_of_a_closed_set():
    sizes = Literal["small", "middle", "large"]
    check_choice("size", "large", sizes)
    for given in ("huge", None, 1, ["large"]):
        with pytest.raises(InvalidInputError) as caught:
            check_choice("size", given, sizes)
        assert str(caught.value) == f"size={given!r} is not known; choose 'small', 'middle' or 'large'"
