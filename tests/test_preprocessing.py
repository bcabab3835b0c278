"""What is known of how pictures are shown: understood at the door, carried in metadata, filled in by others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unitscope.errors import BadInput
from unitscope.preprocessing import IMAGENET, Preprocessing

understand = Preprocessing.understand


def test_one_number_of_pixels_is_a_square():
    assert understand(size=112).size == (112, 112)
    assert understand(size=[96, 128]).size == (96, 128)


def test_what_is_known_here_wins_and_the_rest_is_filled_in():
    mine = Preprocessing(size=(64, 64))
    assert mine.otherwise(IMAGENET) == Preprocessing(size=(64, 64), mean=IMAGENET.mean, std=IMAGENET.std)


numbers = st.floats(0.01, 1.0)
triples = st.tuples(numbers, numbers, numbers)
sides = st.integers(1, 10_000)


@given(
    st.none() | st.tuples(sides, sides),
    st.none() | triples,
    st.none() | triples,
    st.sampled_from([None, "RGB", "BGR", ""]),
    st.none() | st.lists(st.text(), min_size=1).map(tuple),
)
def test_metadata_bring_back_the_very_same(size, mean, std, order, classes):
    known = Preprocessing(size, mean, std, order, classes)
    assert Preprocessing.from_metadata(known.to_metadata()) == known


def test_metadata_are_json_under_the_keys_that_are_documented():
    metadata = Preprocessing((112, 96), (0.5,), (0.25,), "", ("Shih-Tzu", "tench")).to_metadata()
    assert metadata == {
        "unitscope.size": "[112, 96]",
        "unitscope.mean": "[0.5]",
        "unitscope.std": "[0.25]",
        "unitscope.order": '""',
        "unitscope.classes": '["Shih-Tzu", "tench"]',
    }


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("typed", "story"),
    [
        ({"size": 0}, "size is 0; expected one whole number of pixels, or"),
        ({"size": (224,)}, r"size is \(224,\); expected one whole number"),
        ({"size": (224, 22.5)}, "expected one whole number"),
        ({"size": True}, "size is True"),
        ({"size": "224"}, "size is '224'"),
        ({"mean": 0.5}, "mean is 0.5; expected one number per input channel, such as"),
        ({"mean": ("a",)}, "expected one number per input channel"),
        ({"mean": ()}, r"mean is \(\); expected one finite number"),
        ({"std": (float("nan"),)}, "expected one finite number"),
        ({"std": (0.2, 0.2, 0.0)}, "expected numbers above 0, since pictures are divided by them"),
        (
            {"mean": (0.5, 0.5, 0.5), "std": (0.2,)},
            "mean and std have 3 and 1 numbers; expected one of each per input channel",
        ),
        ({"order": "RBG"}, "order is 'RBG'; expected 'RGB', 'BGR' or ''"),
        ({"mean": (0.5,), "order": "RGB"}, "order is 'RGB'; expected '' for 1 input channels"),
        ({"mean": (123.7, 116.3, 103.5)}, "looks like 0..255; pictures are RGB in 0..1: divide mean and std by 255"),
        ({"classes": "dogs"}, "classes are 'dogs'; expected the names of the logits in their order"),
        ({"classes": []}, "expected the names of the logits"),
        ({"classes": [1, 2]}, "expected the names of the logits"),
    ],
)
def test_what_cannot_be_right_is_refused(typed, story):
    with pytest.raises(BadInput, match=story):
        understand(**typed)


def test_channels_that_are_no_colors_may_have_any_mean():
    assert understand(mean=(270.0, 80.0), std=(20.0, 5.0)).mean == (270.0, 80.0)
    assert understand(mean=(270.0, 80.0, 3.0), order="").mean == (270.0, 80.0, 3.0)


def test_metadata_that_are_not_json():
    with pytest.raises(BadInput, match=r"the metadata unitscope.mean should be JSON but is '0.5 0.5"):
        Preprocessing.from_metadata({"unitscope.mean": "0.5 0.5 0.5"})
