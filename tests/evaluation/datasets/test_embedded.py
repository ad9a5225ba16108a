"""The photographs in the package."""

from captum_clrp.evaluation import Embedded


def test_embedded():
    dataset = Embedded()
    assert len(dataset) == 10
    assert [len(p.targets) for p in dataset] == [1] * 5 + [4] * 5
    for photograph in dataset:
        width, height = photograph.read().size
        for target in photograph.targets:
            assert target.located
            for box in target.boxes:
                assert box.area > 0
                assert box == box.cut(width, height)
    assert len(Embedded(collages=False)) == 5


def test_a_collage_shows_each_object_where_its_box_is():
    collage = Embedded()[8]  # without the tripod: cat, espresso, missile, uniform
    assert [t.name for t in collage.targets] == ["tiger cat", "espresso", "missile", "military uniform"]
    corners = [(t.boxes[0].left // 224, t.boxes[0].top // 224) for t in collage.targets]
    assert corners == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_the_network_knows_what_is_on_the_embedded_photographs(lite0):
    for photograph in Embedded(collages=False):
        logits = lite0.model(lite0.inputs(photograph.read()))[0]
        assert photograph.targets[0].label in logits.topk(3).indices.tolist(), photograph.id
