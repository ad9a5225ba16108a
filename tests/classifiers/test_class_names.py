import pytest

from captum_clrp.classifiers import imagenet_class_names, imagenet_wnids, read_class_names
from captum_clrp.errors import ClassifierError


def test_wordnet_numbers_are_in_the_order_of_the_outputs():
    wnids = imagenet_wnids()
    assert len(wnids) == len(set(wnids)) == 1000
    assert list(wnids) == sorted(wnids)
    assert (wnids[340], wnids[386], wnids[999]) == ("n02391049", "n02504458", "n15075141")


def test_names_are_in_the_order_of_the_outputs():
    names = imagenet_class_names()
    assert (names[340], names[386], len(names)) == ("zebra", "African elephant", 1000)


def test_names_are_read_from_a_text_file(tmp_path):
    (tmp_path / "names.txt").write_bytes("\ufeffKohlmeise\r\nblåmeis \r\n大山雀\r\n\r\n".encode())
    assert read_class_names(tmp_path / "names.txt") == ("Kohlmeise", "blåmeis", "大山雀")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a\n\nb\n", "line 2"),
        (b"\n", "line 1"),
        (b"\xff\xfea", "cannot be read"),
        (None, "cannot be read .No such file"),
    ],
)
def test_what_is_no_list_of_names_is_refused(tmp_path, content, says):
    if content is not None:
        (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(ClassifierError, match=says):
        read_class_names(tmp_path / "names.txt")
