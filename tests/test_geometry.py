"""Boxes follow their pictures exactly."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.models import get_model_weights
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, RandomCrop, Resize, ToTensor

from captum_clrp.errors import InvalidInputError
from captum_clrp.geometry import Box, Geometry, box_mask


def drawn(box: Box, width: int, height: int) -> Image.Image:
    """A picture that is white in the box."""
    return Image.fromarray(box_mask([box], height, width).numpy().astype(np.uint8) * 255)


def test_a_pixel_belongs_to_a_box_if_its_centre_does():
    mask = box_mask([Box(1.5, 0.6, 3.4, 2.0)], height=3, width=4)
    # Column centres 0.5, 1.5, 2.5, 3.5: the second and third lie in [1.5, 3.4); row centres 0.5, 1.5, 2.5: the second.
    assert mask.int().tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_several_boxes_are_joined():
    mask = box_mask([Box(0, 0, 1, 1), Box(1, 1, 2, 2)], 2, 2)
    assert mask.tolist() == [[True, False], [False, True]]


def test_first_and_last_pixels_are_part_of_a_box():
    # Pixels 1 to 4 of a row of 4, counted from 1 (VOC), or 0 to 3, counted from 0 (ILSVRC): the whole row.
    assert Box.of_pixels(1, 1, 4, 2, first=1) == Box.of_pixels(0, 0, 3, 1, first=0) == Box(0, 0, 4, 2)


def test_a_hand_worked_crop():
    # 40 x 20 to a shorter side of 10: 20 x 10; the middle 10 x 10 begins at column 5. Box 12..28 -> 6..14 -> 1..9.
    assert Geometry(10, (10, 10)).box(Box(12, 4, 28, 16), 40, 20) == Box(1, 2, 9, 8)


sizes = st.integers(20, 90)


@settings(max_examples=150, deadline=None)
@given(sizes, sizes, st.integers(8, 64), st.integers(4, 60), st.data())
def test_a_map_that_is_one_in_the_box_keeps_being_so(width, height, resize, crop, data):
    """The picture of the box, resized to the nearest pixel and cropped, is the mask of the transformed box."""
    left, right = sorted(data.draw(st.tuples(st.integers(0, width - 1), st.integers(1, width))))
    top, bottom = sorted(data.draw(st.tuples(st.integers(0, height - 1), st.integers(1, height))))
    box = Box(left, top, right, bottom)
    geometry = Geometry(resize, (crop, crop), InterpolationMode.NEAREST)
    seen = np.array(geometry.picture(drawn(box, width, height))) > 0
    moved = geometry.box(box, width, height)
    expected = box_mask([moved], crop, crop).numpy()
    # A pixel whose centre lies on an edge to the last digit may round to either side when the picture is resized.
    on_edge = [any(abs(c + 0.5 - e) < 1e-4 for e in (moved.left, moved.right)) for c in range(crop)]
    on_edge_rows = [any(abs(r + 0.5 - e) < 1e-4 for e in (moved.top, moved.bottom)) for r in range(crop)]
    sure = ~np.array(on_edge)[None, :] & ~np.array(on_edge_rows)[:, None]
    assert (seen == expected)[sure].all()


@pytest.mark.parametrize("side", [64, 128])
def test_with_the_interpolation_of_a_network_the_box_is_where_the_picture_is_white(side):
    # Enlarged or shrunk by whole numbers, antialiased resizing keeps the box's edges on pixel edges.
    geometry = Geometry(side, (48, 48), InterpolationMode.BOX if side < 64 else InterpolationMode.NEAREST)
    box = Box(8, 16, 40, 48)
    seen = np.array(geometry.picture(drawn(box, 64, 64))) > 127
    assert (seen == box_mask([geometry.box(box, 64, 64)], 48, 48).numpy()).all()


@pytest.mark.parametrize("size", [(300, 200), (200, 301), (231, 230), (57, 43)])
@pytest.mark.parametrize("name", ["vgg16", "inception_v3", "mobilenet_v3_large"])
def test_a_torchvision_preprocessing_is_read_and_done_alike(name, size):
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))
    prepare = get_model_weights(name).DEFAULT.transforms(mean=(0.0,) * 3, std=(1.0,) * 3)
    ours = np.array(Geometry.of(prepare).picture(image))
    assert torch.equal(prepare(image), torch.from_numpy(ours).permute(2, 0, 1) / 255)


def test_a_timm_preprocessing_is_read_and_done_alike(lite0):
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 255, (313, 411, 3), dtype=np.uint8))
    ours = np.array(Geometry.of(lite0.prepare).picture(image))
    assert torch.equal(lite0.prepare(image), torch.from_numpy(ours).permute(2, 0, 1) / 255)


@pytest.mark.parametrize("size", [(31, 20), (20, 33), (7, 60)])
@pytest.mark.parametrize("resize", [None, 16, (12, 30)])
def test_the_size_is_known_beforehand(size, resize):
    geometry = Geometry(resize, None)
    assert geometry.picture(Image.new("RGB", size)).size == geometry.size(*size)[::-1]


def test_a_crop_larger_than_the_picture_pads_it_and_moves_boxes():
    # 5 x 5 in a crop of 8 x 8: padded by 1 at the left and top (and 2 at the right and bottom).
    geometry = Geometry(None, (8, 8))
    seen = np.array(geometry.picture(drawn(Box(0, 0, 5, 5), 5, 5))) > 0
    assert (seen == box_mask([geometry.box(Box(0, 0, 5, 5), 5, 5)], 8, 8).numpy()).all()
    assert seen.sum() == 25


def test_a_box_outside_the_crop_has_no_area():
    assert Geometry(None, (10, 10)).box(Box(0, 0, 3, 3), 40, 40).area == 0


def test_a_step_that_moves_pixels_in_another_way_is_refused():
    with pytest.raises(InvalidInputError, match="RandomCrop"):
        Geometry.of(Compose([Resize(32), RandomCrop(24), ToTensor()]))


def test_cropping_before_resizing_is_refused():
    with pytest.raises(InvalidInputError, match="Resize"):
        Geometry.of(Compose([CenterCrop(24), Resize(12)]))


def test_scaled_to_keeps_the_view():
    assert Geometry(256, (224, 224)).scaled_to((112, 112)) == Geometry(128, (112, 112))


def test_a_geometry_is_a_preprocessing():
    image = Image.effect_noise((90, 70), 60).convert("RGB")
    expected = Compose([Resize(40), CenterCrop(32), ToTensor()])(image)
    assert torch.equal(Geometry(40, (32, 32))(image), expected)
    assert Geometry.of(geometry := Geometry(40, (32, 32))) is geometry
