"""Categories by name, by group, by file; and the short stories of what is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.wiring import COLORS, category_network, uniform, write_folder
from unitscope.analysis.categories import categories_of, groups, membership, readable_name, wnid_of
from unitscope.errors import BadInput, UnknownName
from unitscope.record import Record
from unitscope.recording.survey import survey

LABELS = ("n02085620", "n02115641-dingo", "golden_retriever", "n01440764", "chain saw")
"""A breed, a wild dog, a breed by its name, a fish, a thing."""


def record_of(labels: tuple[str, ...], to: Path) -> Record:
    pictures = {label: [uniform(color)[0] for color in COLORS.values()] for label in labels}
    return survey(category_network(), write_folder(to / "pictures", pictures), to=to / "record", sites=["conv1"])


@pytest.fixture(scope="module")
def record(tmp_path_factory) -> Record:
    return record_of(LABELS, tmp_path_factory.mktemp("labels"))


@pytest.mark.parametrize(
    ("group", "labels"),
    [
        ("dogs", {"n02085620", "golden_retriever"}),
        ("canines", {"n02085620", "golden_retriever", "n02115641-dingo"}),
        ("animals", set(LABELS) - {"chain saw"}),
        ("artifacts", {"chain saw"}),
        ("fish", {"n01440764"}),
    ],
)
def test_groups_are_sets_of_classes_by_id_or_name(record, group, labels):
    (found,) = categories_of(record, group)
    assert (found.name, found.labels) == (group, labels)


def test_the_118_breeds_are_dogs_and_every_group_is_of_known_classes():
    assert len(groups()["dogs"]) == 118
    assert {readable_name(wnid) for wnid in groups()["dogs"]} >= {"Chihuahua", "Mexican hairless"}
    for name, last in (("birds", "albatross"), ("fish", "puffer"), ("insects", "lycaenid"), ("felines", "cheetah"),
                       ("reptiles", "sidewinder"), ("primates", "indri"), ("bears", "sloth bear")):  # fmt: skip
        assert last in {readable_name(wnid) for wnid in groups()[name]}
    assert [len(groups()[name]) for name in ("birds", "primates", "felines", "cats")] == [59, 20, 13, 5]
    assert groups()["dogs"] < groups()["canines"] < groups()["mammals"] < groups()["animals"]
    assert not groups()["animals"] & groups()["artifacts"]


def test_labels_by_themselves_by_their_name_and_all_of_them(record):
    assert categories_of(record, "tench")[0].labels == {"n01440764"}
    assert categories_of(record, "n01440764")[0].name == "tench"
    assert [one.name for one in categories_of(record, "labels")] == [
        "chain saw", "golden_retriever", "tench", "Chihuahua", "n02115641-dingo",
    ]  # fmt: skip
    assert wnid_of("Chihuahua") == "n02085620"
    assert wnid_of("crane") is None  # two classes are called so


def test_a_file_names_labels_or_images(record, tmp_path):
    first = record.images()["uri"][0]
    (tmp_path / "own.csv").write_text(f"category,label,uri\npets,n02085620,\npets,golden_retriever,\none,,{first}\n")
    pets, one = categories_of(record, tmp_path / "own.csv")
    assert (pets.labels, one.uris) == ({"n02085620", "golden_retriever"}, {first})
    members = membership(record, (pets, one))
    assert members.member.sum(1).tolist() == [6, 1]
    assert not members.by_label


@pytest.mark.parametrize(
    ("text", "story"),
    [
        ("name,label\na,b\n", "have name, label; expected are the columns category and label"),
        ("", "have no row; expected"),
        ("category,label\ndogs,\n", "line 2 of .* lacks its category, or its label"),
    ],
)
def test_a_file_of_another_form_is_refused(record, tmp_path, text, story):
    (tmp_path / "own.csv").write_text(text)
    with pytest.raises(BadInput, match=story):
        categories_of(record, str(tmp_path / "own.csv"))


def test_files_that_cannot_be_read_are_refused(record, tmp_path):
    with pytest.raises(BadInput, match="cannot be read"):
        categories_of(record, str(tmp_path / "absent.csv"))
    (tmp_path / "own.csv").write_bytes(b"category,label\n\xff\xfe,b\n")
    with pytest.raises(BadInput, match="cannot be read"):
        categories_of(record, str(tmp_path / "own.csv"))


def test_what_is_no_category_tells_what_is_near(record):
    with pytest.raises(UnknownName, match=r"no label or group 'dog'\. Close: 'dogs'"):
        categories_of(record, "dog")
    with pytest.raises(BadInput, match="two categories are called dogs"):
        categories_of(record, ["dogs", "dogs"])
    with pytest.raises(BadInput, match="no category came"):
        categories_of(record, [])


def test_categories_without_images_or_with_all_of_them_are_refused(record, tmp_path):
    with pytest.raises(BadInput, match="no image of the record is of the category 'birds'"):
        membership(record, categories_of(record, "birds"))
    (tmp_path / "all.csv").write_text("category,label\n" + "".join(f"all,{label}\n" for label in LABELS))
    with pytest.raises(BadInput, match="all 15 labeled images are of the category 'all'"):
        membership(record, categories_of(record, tmp_path / "all.csv"))


def test_images_without_labels_are_refused(tmp_path):
    write_folder(tmp_path, {".": [uniform(color)[0] for color in COLORS.values()]})
    record = survey(category_network(), tmp_path, to=tmp_path / "record", sites=["conv1"])
    with pytest.raises(BadInput, match="have no labels; name those of a category one by one in a CSV"):
        categories_of(record, "dogs")
