import pytest
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, RandomCrop, Resize, ToTensor

from captum_clrp.classifiers.preprocessing import Preprocessing, changed
from captum_clrp.errors import ClassifierError, InvalidInputError
from captum_clrp.geometry import Geometry

KNOWN = Preprocessing(Geometry(256, (224, 224), InterpolationMode.BICUBIC), (0.4, 0.5, 0.6), (0.1, 0.2, 0.3))


def test_without_changes_it_stays_as_it_is():
    assert changed(KNOWN, "net") == KNOWN


@pytest.mark.parametrize(
    ("given", "resize", "crop"),
    [
        ({"size": 64}, 64, (64, 64)),
        ({"size": (60, 80)}, (60, 80), None),
        ({"size": 64, "crop": 56}, 64, (56, 56)),
        ({"crop": 200}, 256, (200, 200)),
        ({"crop": (200, 100)}, 256, (200, 100)),
    ],
)
def test_size_and_crop(given, resize, crop):
    if given.get("size") == (60, 80):
        crop = None
    assert changed(KNOWN, "net", **given).prepare == Geometry(resize, crop, InterpolationMode.BICUBIC)
    if "size" in given:
        alone = changed(None, "net", mean=[0.5], std=[0.5], **given).prepare
        assert alone == Geometry(resize, crop, InterpolationMode.BILINEAR)


def test_a_crop_alone_is_also_the_size():
    assert changed(None, "net", mean=[0.5], std=[0.5], crop=32).prepare == Geometry(32, (32, 32))


def test_mean_and_std_are_for_each_channel_or_for_all():
    assert changed(KNOWN, "net", mean=[0.5])[1:] == ((0.5,) * 3, KNOWN.std)
    assert changed(KNOWN, "net", std=[1, 2, 3])[1:] == (KNOWN.mean, (1.0, 2.0, 3.0))
    assert changed(KNOWN, "net", mean=[0.5], std=[0.25])[1:] == ((0.5,), (0.25,))


def test_a_mean_of_bytes_is_noted(recwarn):
    changed(KNOWN, "net", mean=[-0.5, 0.5, 1.0])
    assert not recwarn.list
    with pytest.warns(UserWarning, match=r"mean 123.675, 116.28, 103.53 is far from pixels in \[0, 1\]; if .* divide"):
        changed(KNOWN, "net", mean=[123.675, 116.28, 103.53], std=[58.4, 57.1, 57.4])


@pytest.mark.parametrize(
    ("known", "given", "argument", "says"),
    [
        (None, {}, "preprocessing", "torchvision or timm that is fed alike, or mean and std and size$"),
        (None, {"mean": [0.5], "std": [0.5]}, "preprocessing", "or size$"),
        (None, {"size": 64}, "preprocessing", "or mean and std$"),
        (KNOWN, {"mean": [0.1, 0.2]}, "mean", "0.1, 0.2 are 2 values"),
        (KNOWN, {"std": [0.5, 0.0, 0.5]}, "std", "they are positive"),
    ],
)
def test_what_is_missing_or_wrong_is_said(known, given, argument, says):
    with pytest.raises(ClassifierError, match=says) as caught:
        changed(known, "net", **given)
    assert caught.value.argument == argument


def test_a_preprocessing_of_other_steps_takes_no_other_size():
    known = KNOWN._replace(prepare=Compose([Resize(32), RandomCrop(24), ToTensor()]))
    assert changed(known, "net", mean=[0.5]).prepare is known.prepare
    with pytest.raises(InvalidInputError, match="RandomCrop"):
        changed(known, "net", size=24)
    assert changed(KNOWN._replace(prepare=Compose([CenterCrop(8), ToTensor()])), "net", crop=4).prepare == Geometry(
        4, (4, 4)
    )
