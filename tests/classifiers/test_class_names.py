from captum_clrp.classifiers import imagenet_class_names, imagenet_wnids


def test_wordnet_numbers_are_in_the_order_of_the_outputs():
    wnids = imagenet_wnids()
    assert len(wnids) == len(set(wnids)) == 1000
    assert list(wnids) == sorted(wnids)
    assert (wnids[340], wnids[386], wnids[999]) == ("n02391049", "n02504458", "n15075141")


def test_names_are_in_the_order_of_the_outputs():
    names = imagenet_class_names()
    assert (names[340], names[386], len(names)) == ("zebra", "African elephant", 1000)
