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


def test_labels_by_names_by_wordnet_by_order_and_by_table(tmp_path):
    assert logits_of_labels(["b", "a"], logits=3, names=["b", "c", "a"]) == {"b": 0, "a": 2}
    assert logits_of_labels(["n02099601", "n01440764"], logits=1000) == {"n02099601": 207, "n01440764": 0}
    assert logits_of_labels(["y", "x"], logits=2) == {"x": 0, "y": 1}
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


def test_labels_that_cannot_be_placed():
    with pytest.raises(BadInput, match=r"which of the 1000 logits belongs to which of the 2 labels.*--classes CSV"):
        logits_of_labels(["cat", "dog"], logits=1000)
    with pytest.raises(BadInput, match="the images have no labels"):
        logits_of_labels([], logits=10)
