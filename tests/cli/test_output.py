import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captum_clrp.cli import output
from captum_clrp.cli.errors import CommandError
from captum_clrp.cli.output import output_paths, write_whole
from captum_clrp.visualization import draw_map, encoded


def test_one_image_goes_to_the_file_or_into_the_folder(workplace):
    image = Path("photos/cat.jpg")
    assert output_paths([image], None, reading=[]) == [Path("cat_clrp.png")]
    assert output_paths([image], "why.png", reading=[]) == [Path("why.png")]
    Path("out").mkdir()
    assert output_paths([image], "out", reading=[]) == [Path("out/cat_clrp.png")]


def test_images_of_one_name_are_numbered(workplace):
    images = [Path("a/cat.jpg"), Path("b/cat.jpg"), Path("dog.jpg")]
    found = [path.name for path in output_paths(images, None, reading=[])]
    assert found == ["cat_clrp.png", "cat_clrp_2.png", "dog_clrp.png"]


@pytest.mark.parametrize(
    ("images", "asked", "says"),
    [
        (["a.jpg"], "missing/x.png", "mkdir -p missing"),
        (["a.jpg"], "missing/", "mkdir -p missing"),
        (["a.jpg"], "x.gif", r"name it x\.png"),
        (["a.jpg", "b.jpg"], "x.png", "several images need a folder .* name of one file"),
        (["a.jpg", "b.jpg"], "file.png", "give an existing folder"),
        (["a.jpg"], "a.png", "overwrite the image itself"),
        (["a.jpg"], "pipe.png", "no ordinary file"),
    ],
)
def test_where_nothing_can_go_is_said_before_the_work(workplace, images, asked, says):
    Path("file.png").touch()
    os.mkfifo("pipe.png")
    with pytest.raises(CommandError, match=says):
        output_paths([Path(image) for image in images], asked, reading=[Path("a.png")])


def test_names_stay_apart_where_the_file_system_ignores_case(workplace):
    images = [Path("cat.jpg"), Path("CAT.jpg"), Path("cat_clrp.jpg"), Path("cat_clrp_2.jpg")]
    found = output_paths(images, None, reading=[])
    assert len({str(path).casefold() for path in found}) == len(images)


def test_a_written_file_is_whole_and_alone(workplace):
    write_whole(Path("x.png"), b"old")
    write_whole(Path("x.png"), b"new")
    assert [(path.name, path.read_bytes()) for path in workplace.iterdir()] == [("x.png", b"new")]
    umask = os.umask(0)
    os.umask(umask)
    assert Path("x.png").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_failed_write_leaves_the_old_file_and_nothing_else(workplace, monkeypatch):
    write_whole(Path("x.png"), b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output.os, "replace", full)
    with pytest.raises(CommandError, match="No space left"):
        write_whole(Path("x.png"), b"new")
    assert [(path.name, path.read_bytes()) for path in workplace.iterdir()] == [("x.png", b"old")]


def test_a_link_stays_a_link(workplace):
    Path("real.png").write_bytes(b"old")
    Path("link.png").symlink_to("real.png")
    write_whole(Path("link.png"), b"new")
    assert Path("link.png").is_symlink()
    assert Path("real.png").read_bytes() == b"new"


def test_only_pictures_of_this_command_are_written_over(workplace):
    Image.new("RGB", (4, 4)).save("mine.png")
    with pytest.raises(CommandError, match=r"mine\.png exists and was not written by captum-clrp"):
        output_paths([Path("a.jpg")], "mine.png", reading=[])
    Path("notes.png").write_text("no picture at all")
    with pytest.raises(CommandError, match=r"notes\.png exists"):
        output_paths([Path("a.jpg")], "notes.png", reading=[])
    Path("a_clrp.png").write_bytes(encoded(draw_map(np.ones((4, 4)), style="heatmap")))
    assert output_paths([Path("a.jpg")], None, reading=[]) == [Path("a_clrp.png")]
