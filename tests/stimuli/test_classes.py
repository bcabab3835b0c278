"""Labels find their logits."""

from __future__ import annotations

import pytest

from unitscope.errors import BadInput
from unitscope.stimuli.classes import imagenet_classes, logits_of_labels


def test_the_thousand_classes():
    classes = imagenet_classes()
    assert [one.logit for one in classes] == list(range(1000))
    assert len({one.wnid for one in classes}) == 1000
    assert classes[207].name == "golden retriever"
    assert sorted(one.wnid for one in classes) == [one.wnid for one in classes]


def test_labels_by_names_by_wordnet_and_by_table(tmp_path):
    assert logits_of_labels(["b", "a"], logits=3, names=["b", "c", "a"]) == {"b": 0, "a": 2}
    assert logits_of_labels(["n02099601", "n01440764"], logits=1000) == {"n02099601": 207, "n01440764": 0}
    assert logits_of_labels(["golden retriever", "tench"], logits=1000) == {"golden retriever": 207, "tench": 0}
    assert logits_of_labels(["n02099601"], logits=1000, names=["unknown"] * 1000) == {"n02099601": 207}
    (tmp_path / "classes.csv").write_text("label,class\nx,4\ny,4\n")
    assert logits_of_labels(["x", "y"], logits=5, classes=tmp_path / "classes.csv") == {"x": 4, "y": 4}
    assert logits_of_labels(["x"], logits=5, names=["x", *"abcd"], classes={"x": 3}) == {"x": 3}


@pytest.mark.parametrize(
    ("text", "story"),
    [
        ("label,class\nx,1\n", "does not name y"),
        ("label,class\nx,1\ny,7\n", "gives y the logit 7; the network has 5"),
        ("label,class\nx,1\ny,dog\n", "a class is no whole number"),
        ("name,number\nx,1\n", "expected the columns label and class"),
        ("", "has no rows"),
    ],
)
def test_a_table_that_does_not_fit(tmp_path, text, story):
    (tmp_path / "classes.csv").write_text(text)
    with pytest.raises(BadInput, match=story):
        logits_of_labels(["x", "y"], logits=5, classes=tmp_path / "classes.csv")


def test_the_order_of_folders_is_never_taken_for_that_of_logits():
    with pytest.raises(
        BadInput, match=r"which of the 2 logits belongs to which of the 2 labels \(x, y\)\. Give a table"
    ):
        logits_of_labels(["y", "x"], logits=2)
    readable = [f"{one.name} {one.wnid}" for one in imagenet_classes()]
    with pytest.raises(BadInput, match=r"which of the 1000 logits .* The order of the folders does not tell"):
        logits_of_labels(readable, logits=1000)


def test_a_name_that_two_classes_have_is_a_story():
    """ImageNet has two cranes (134, a bird, and 517, a machine) and two maillots."""
    by_name = logits_of_labels(
        [one.name for one in imagenet_classes() if one.logit not in (134, 517, 638, 639)], logits=1000
    )
    assert len(by_name) == 996
    assert all(imagenet_classes()[logit].name == name for name, logit in by_name.items())
    names = [one.name for one in imagenet_classes()]
    for known in (None, names):
        with pytest.raises(
            BadInput, match=r"'crane' .* more than one class \(logits 134 and 517\)\. So is maillot\. Name"
        ):
            logits_of_labels(["crane", "maillot", "tench"], logits=1000, names=known)
    assert logits_of_labels(["n02012849", "n03126707"], logits=1000, names=names) == {
        "n02012849": 134,
        "n03126707": 517,
    }
    assert logits_of_labels(["crane"], logits=1000, names=names, classes={"crane": 134}) == {"crane": 134}


def test_labels_that_cannot_be_placed():
    with pytest.raises(BadInput, match=r"which of the 1000 logits belongs to which of the 2 labels.*--classes CSV"):
        logits_of_labels(["cat", "dog"], logits=1000)
    with pytest.raises(BadInput, match="the images have no labels"):
        logits_of_labels([], logits=10)
