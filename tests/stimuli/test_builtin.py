"""The demonstration set: always the same, from what scikit-image's wheel carries, and named as what it is."""

from __future__ import annotations

import dataclasses
import importlib.util
import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.conftest import needs
from unitscope.errors import Failure
from unitscope.stimuli import builtin
from unitscope.stimuli.builtin import SOURCE_PHOTOGRAPHS, builtin_images
from unitscope.stimuli.images import open_images, reopen
from unitscope.stimuli.presentation import Presentation, decode

pytestmark = needs("skimage")


def test_it_is_about_a_thousand_crops_of_six_photographs_and_says_so():
    images = builtin_images()
    assert 900 <= len(images) <= 1100
    assert images.labels == ("astronaut", "chelsea", "coffee", "hubble", "retina", "rocket")
    assert images.note == "demonstration set: crops of six photographs, not a sample of natural images"
    assert images.source == "builtin"
    assert len({item.uri for item in images}) == len(images)


def test_crops_of_one_photograph_are_known_as_such():
    images = builtin_images()
    assert images.items[170].photograph == "builtin:chelsea"
    assert np.bincount(images.photographs).tolist() == [170] * 6
    old = [dataclasses.replace(item, photograph=None) for item in images]
    assert dataclasses.replace(images, items=tuple(old)).photographs.tolist() == images.photographs.tolist()


def test_it_never_changes():
    images = builtin_images()
    assert images.items[0].uri == "builtin:astronaut/000?box=208,208,304,304"
    assert images.items[-1].uri == "builtin:rocket/169?box=0,171,427,598"
    assert images.fingerprint == "99080ce18ba3b18d134e7a8ff5e6a8951adaf9b57ffa0b8faffb829888bb4e76"


def test_each_crop_is_what_its_name_says_without_loss():
    images = builtin_images()
    with Image.open(builtin.file_of(SOURCE_PHOTOGRAPHS["coffee"])) as coffee:
        whole = np.asarray(coffee.convert("RGB"))
    image = next(i for i, item in enumerate(images) if item.label == "coffee") + 77
    top, left, bottom, right = map(int, images.items[image].uri.partition("box=")[2].split(","))
    data = images.bytes(image)
    assert len(data) == images.sizes[image]
    assert np.array_equal(np.asarray(decode(data)), whole[top:bottom, left:right])


def test_crops_lie_on_their_photographs_at_several_scales():
    for photograph in SOURCE_PHOTOGRAPHS.values():
        boxes = list(builtin.crop_boxes(photograph.size))
        assert all(box.clip(photograph.size) == box and box.height == box.width for box in boxes)
        sides = [box.height for box in boxes]
        assert sides[0] == 96
        assert sides[-1] == min(photograph.size)
        assert len(set(boxes)) == len(boxes)


def test_it_goes_to_other_processes_and_is_reopened():
    images = builtin_images()
    data = images.bytes(500)
    assert pickle.loads(pickle.dumps(images)).bytes(500) == data
    assert open_images("builtin").bytes(500) == data
    again = reopen(images.source, images.items[400:600])
    assert again.bytes(100) == data
    assert again.note == images.note
    assert Presentation((112, 112)).present(data).shape == (112, 112, 3)


def test_a_folder_of_its_name_comes_first_but_not_when_a_record_is_reopened(tmp_path, monkeypatch):
    images = builtin_images()
    (tmp_path / "builtin").mkdir()
    (tmp_path / "builtin" / "a.jpg").write_bytes(b"mine")
    monkeypatch.chdir(tmp_path)
    assert open_images("builtin").bytes(0) == b"mine"
    assert reopen("builtin", images.items[:2]).bytes(1) == images.bytes(1)


def test_nothing_is_downloaded_and_scikit_image_is_not_even_imported():
    code = (
        "import sys, unitscope.stimuli.builtin as b; images = b.builtin_images();"
        "[images.bytes(i) for i in range(0, len(images), 150)];"
        "sys.exit(bool({'skimage', 'pooch', 'urllib3', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_scikit_image_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(Failure, match=r"scikit-image is not installed|pip install 'unitscope\[demo\]'"):
        builtin_images()


def test_a_scikit_image_without_the_photographs_is_told(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_loader("skimage", loader=None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec)
    with pytest.raises(Failure, match=r"does not carry astronaut\.png"):
        builtin_images()


def test_another_picture_in_a_photograph_s_place_is_refused(monkeypatch, tmp_path):
    Image.new("RGB", (5, 5)).save(tmp_path / "other.png")
    monkeypatch.setattr(builtin, "file_of", lambda _: tmp_path / "other.png")
    builtin.photograph_pixels.cache_clear()
    with pytest.raises(Failure, match=r"coffee\.png has 5 x 5 pixels instead of 600 x 400"):
        builtin.photograph_pixels("coffee")
    builtin.photograph_pixels.cache_clear()
