"""Networks made elsewhere: what their makers say of them is taken over, and what goes wrong there is told here."""

from __future__ import annotations

import random
import sys
import urllib.error

import pytest
import torch
from torch import nn

from tests.conftest import needs, needs_shared_data
from unitscope.errors import BadInput, Failure, UnknownName
from unitscope.model_zoos import from_torchvision, torchvision_names
from unitscope.networks import Network, load
from unitscope.preprocessing import Preprocessing
from unitscope.weights import write_weights

HALVES = (0.5, 0.5, 0.5)


# torchvision


@needs("torchvision")
def test_a_model_of_torchvision_brings_its_preprocessing():
    network = load("torchvision:mobilenet_v2", classes=4)
    assert (network.size, network.mean, network.std) == ((224, 224), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (network.weights, network.classes, network.order) == ("random (seed 0)", None, "RGB")
    assert network(torch.rand(1, 3, 224, 224)).shape == (1, 4)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        assert load("torchvision:mobilenet_v2", classes=4).fingerprint == network.fingerprint
    assert load("torchvision:mobilenet_v2", classes=4, seed=1).fingerprint != network.fingerprint


@needs("torchvision")
@pytest.mark.parametrize(("name", "size"), [("efficientnet_b1", (240, 240)), ("fcn_resnet50", (520, 520))])
def test_the_size_is_that_of_the_architecture_and_random_weights_download_nothing(name, size, monkeypatch):
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_, **__: pytest.fail("a download"))
    assert load(f"torchvision:{name}").size == size


@needs("torchvision")
def test_the_size_of_random_weights_is_not_that_of_weights_made_for_another_one():
    """The first weights of vit_h_14 are for 518 pixels; without weights it is made for 224."""
    with torch.device("meta"):
        assert from_torchvision("vit_h_14", None, logits=None).preprocessing.size == (224, 224)


@pytest.fixture
def fetched(monkeypatch):
    """Downloads of torchvision give the weights of a network made beforehand, and the addresses are kept."""
    from torchvision.models import _api, get_model

    addresses = []

    def fetch(address, *, progress, **_):
        assert not progress  # the library is quiet
        addresses.append(address)
        return get_model("resnet18", weights=None).state_dict()

    monkeypatch.setattr(_api, "load_state_dict_from_url", fetch)
    return addresses


@needs("torchvision")
@pytest.mark.parametrize("asked", ["DEFAULT", "IMAGENET1K_V1"])
def test_published_weights_of_torchvision_bring_their_classes(fetched, asked):
    network = load("torchvision:resnet18", asked)
    assert fetched == ["https://download.pytorch.org/models/resnet18-f37072fd.pth"]
    assert network.weights == "IMAGENET1K_V1"
    assert network.classes[0] == "tench"
    assert len(network.classes) == 1000


@needs("torchvision")
@pytest.mark.usefixtures("fetched")
def test_published_weights_have_their_own_number_of_logits_which_may_be_named():
    with pytest.raises(
        BadInput, match="torchvision:resnet18 with published weights has 1000 logits; it cannot have 20"
    ):
        load("torchvision:resnet18", "DEFAULT", classes=20)
    names = [f"class {number}" for number in range(1000)]
    assert load("torchvision:resnet18", "DEFAULT", classes=names).classes == tuple(names)


@needs("torchvision")
@pytest.mark.parametrize(
    "cause",
    [urllib.error.URLError("Name or service not known"), RuntimeError("invalid hash value"), TimeoutError("slow")],
)
def test_a_download_that_fails_names_the_address(monkeypatch, cause):
    from torchvision.models import _api

    def fail(*_, **__):
        raise cause

    monkeypatch.setattr(_api, "load_state_dict_from_url", fail)
    story = (
        r"weights IMAGENET1K_V1 of torchvision:resnet18 could not be fetched \(.*\). Fetch https://.*pth elsewhere, and"
    )
    with pytest.raises(Failure, match=story):
        load("torchvision:resnet18", "DEFAULT")


@needs("torchvision")
@pytest.mark.parametrize(
    ("given", "story"),
    [
        (["torchvision:resnet43"], r"torchvision has no model 'resnet43'\. Close: 'resnet34'"),
        (
            ["torchvision:resnet18", "IMAGENET1K_V2"],
            r"no published weights 'IMAGENET1K_V2'\. Close: 'IMAGENET1K_V1'.* It has",
        ),
    ],
)
def test_names_that_torchvision_does_not_know(given, story):
    with pytest.raises(UnknownName, match=story):
        load(*given)


@needs("torchvision")
def test_torchvision_reads_color_pictures():
    with pytest.raises(BadInput, match="torchvision:resnet18 has 3 input channels, and mean has 1 numbers"):
        load("torchvision:resnet18", mean=(0.5,), std=(0.5,))


@needs("torchvision")
def test_a_file_is_fitted_into_a_model_of_torchvision(tmp_path):
    from torchvision.models import get_model

    theirs = get_model("squeezenet1_1", weights=None).eval()
    torch.save({"state_dict": {f"module.{n}": t for n, t in theirs.state_dict().items()}}, tmp_path / "w.pth")
    network = load("torchvision:squeezenet1_1", tmp_path / "w.pth", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), size=64)
    pictures = torch.rand(1, 3, 64, 64)
    assert torch.equal(network(pictures), theirs(pictures))
    assert network.weights == "w.pth"


@needs("torchvision")
@needs_shared_data
@pytest.mark.parametrize(("name", "facts"), [("squeezenet1_1", {}), ("mobilenet_v2", {"mean": HALVES, "std": HALVES})])
def test_trained_networks_of_others_recognize_photographs(shared_data, name, facts):
    """A few validation photographs of one class each; trained weights put the right class first for most."""
    import numpy as np
    from PIL import Image

    network = load(f"torchvision:{name}", shared_data / "networks" / f"{name}.safetensors", **facts)
    numbers = dict(
        line.split(",")[1::-1] for line in (shared_data / "imagenet_classes.csv").read_text().splitlines()[1:]
    )
    folders = sorted((shared_data / "photographs" / "val").iterdir())
    files = [path for folder in folders for path in sorted(folder.iterdir())[:1]]
    pictures = torch.stack(
        [
            torch.from_numpy(np.array(Image.open(p).convert("RGB").resize((224, 224)))).permute(2, 0, 1) / 255
            for p in files
        ]
    )
    with torch.no_grad():
        guesses = network(pictures).argmax(1)
    right = [int(numbers[path.parent.name]) for path in files]
    assert (guesses == torch.tensor(right)).float().mean() > 0.4


# timm


@needs("timm")
def test_a_model_of_timm_brings_its_preprocessing():
    network = load("timm:mixer_s32_224", classes=3)
    assert (network.size, network.mean, network.std) == ((224, 224), HALVES, HALVES)
    assert (network.name, network.weights) == ("timm:mixer_s32_224", "random (seed 0)")
    assert network(torch.rand(1, 3, 224, 224)).shape == (1, 3)


@needs("timm")
def test_timm_makes_networks_of_any_input_channels():
    network = load("timm:resnet18", mean=HALVES[:2], std=HALVES[:2], classes=3, size=64)
    assert network.inputs == 2
    assert network(torch.rand(1, 2, 64, 64)).shape == (1, 3)


@needs("timm")
@pytest.mark.parametrize(
    ("model", "weights", "asked", "label"),
    [
        ("timm:resnet18", "DEFAULT", "resnet18", "a1_in1k"),
        ("timm:resnet18", "a2_in1k", "resnet18.a2_in1k", "a2_in1k"),
        ("timm:resnet18.a3_in1k", "DEFAULT", "resnet18.a3_in1k", "a3_in1k"),
    ],
)
def test_published_weights_of_timm_go_by_their_tag(monkeypatch, model, weights, asked, label):
    import timm

    create, calls = timm.create_model, []

    def spy(name, *, pretrained=False, **options):
        calls.append((name, pretrained))
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", spy)
    assert load(model, weights).weights == label
    assert calls == [(asked, True)]
    with pytest.raises(BadInput, match="with published weights has 1000 logits; it cannot have 20"):
        load(model, weights, classes=20)


@needs("timm")
def test_a_download_of_timm_that_fails(monkeypatch):
    import timm

    def fail(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(
        Failure, match=r"timm:resnet18 could not be fetched \(ConnectionError: no route\)\. Fetch them else"
    ):
        load("timm:resnet18", "DEFAULT")


@needs("timm")
@pytest.mark.parametrize(
    ("given", "story"),
    [
        (["timm:resnet19"], r"timm has no model 'resnet19'\. Close: 'resnet1"),
        (
            ["timm:resnet18", "a9_in1k"],
            r"timm:resnet18 has no weights 'a9_in1k'\. Close: .*'a1_in1k'.* It has a1_in1k, a2",
        ),
        (["timm:resnet18.a9_in1k"], "timm:resnet18 has no weights 'a9_in1k'"),
    ],
)
def test_names_that_timm_does_not_know(given, story):
    with pytest.raises(UnknownName, match=story):
        load(*given)


# Libraries that are missing or do not fit


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_missing_library_names_the_extra(monkeypatch, library):
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)

    class Nothing:
        def find_spec(self, name, path=None, target=None):  # noqa: ARG002
            if name.partition(".")[0] == library:
                raise ModuleNotFoundError(f"No module named {library!r}", name=library)

    monkeypatch.setattr(sys, "meta_path", [Nothing(), *sys.meta_path])
    with pytest.raises(
        Failure, match=rf"{library}:NAME needs {library}, which is not installed. .*'unitscope\[models\]'"
    ):
        load(f"{library}:resnet18")
    if library == "torchvision":
        assert torchvision_names() == []
        with pytest.raises(UnknownName, match="unitscope has no network 'mobilenet_v2'"):
            load("mobilenet_v2")


def test_a_torchvision_built_for_another_torch(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)

    class Broken:
        def find_spec(self, name, path=None, target=None):  # noqa: ARG002
            if name == "torchvision":
                raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    story = "torchvision is installed but cannot be imported beside this torch: RuntimeError: operator torchvision::nms"
    with pytest.raises(Failure, match=story):
        load("torchvision:resnet18")


# Factories

FACTORIES = """
import torch
from torch import nn
import unitscope.networks

def tiny():
    return nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten())

class Tiny(nn.Module):
    def forward(self, x):
        return x

ready = nn.Identity()

def shown():
    return unitscope.networks.Network(nn.Identity(), size=16, mean=(0.5,), std=(0.5,), classes=["a"], weights="mine")

def picky(depth):
    pass

class zoo:
    tiny = staticmethod(tiny)

number = 3
"""


@pytest.fixture
def factories(tmp_path, monkeypatch):
    """A module of factories that can be imported; gives its name."""
    name = f"factories_{random.getrandbits(60)}"
    (tmp_path / f"{name}.py").write_text(FACTORIES)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


@pytest.mark.parametrize("factory", ["tiny", "zoo.tiny", "Tiny", "ready"])
def test_a_factory_makes_a_network(factories, factory):
    network = load(f"{factories}:{factory}", size=16, mean=HALVES, std=HALVES)
    assert (network.name, network.weights) == (f"{factories}:{factory}", f"as {factories}:{factory} makes them")
    assert network(torch.rand(1, 3, 16, 16)).shape[0] == 1


def test_what_a_factory_draws_depends_on_the_seed(factories):
    one, same, other = (load(f"{factories}:tiny", seed=seed).fingerprint for seed in (0, 0, 1))
    assert one == same != other


def test_a_factory_may_make_a_whole_network(factories):
    network = load(f"{factories}:shown")
    assert isinstance(network, Network)
    assert (network.size, network.mean, network.classes, network.weights) == ((16, 16), (0.5,), ("a",), "mine")
    assert load(f"{factories}:shown", size=8).size == (8, 8)


def test_a_file_is_fitted_into_what_a_factory_makes(factories, tmp_path):
    state = nn.Sequential(nn.Conv2d(3, 2, 3)).state_dict()
    path = write_weights(tmp_path / "w.safetensors", state, Preprocessing(mean=HALVES, std=HALVES))
    network = load(f"{factories}:tiny", path)
    assert torch.equal(network.module[0].weight, state["0.weight"])
    assert network.mean == HALVES


def test_factories_that_do_not_make_one(factories, tmp_path):
    (tmp_path / f"{factories}_broken.py").write_text("import nothing_of_this_name")
    (tmp_path / f"{factories}_wrong.py").write_text("1 / 0")
    cases = [
        ("tony", UnknownName, rf"the module {factories} has no factory 'tony'. Close: .*'tiny'"),
        ("picky", Failure, r"picky was called without arguments and failed: TypeError: picky\(\) missing 1 required"),
        ("number", BadInput, r"number gave a int; expected a torch.nn.Module or a unitscope.Network"),
        ("zoo", BadInput, r"zoo gave a zoo; expected a torch.nn.Module"),
    ]
    for factory, kind, story in cases:
        with pytest.raises(kind, match=story):
            load(f"{factories}:{factory}")
    with pytest.raises(
        Failure, match=r"importing .*_broken failed: ModuleNotFoundError: No module named 'nothing_of_this"
    ):
        load(f"{factories}_broken:tiny")
    with pytest.raises(Failure, match=r"importing .*_wrong failed: ZeroDivisionError: division by zero"):
        load(f"{factories}_wrong:tiny")
    with pytest.raises(UnknownName, match=r"there is no module 'torchvison' to import. Close: 'torchvision:resnet18'"):
        load("torchvison:resnet18")
    with pytest.raises(
        UnknownName, match=r"no module 'my_unknown_networks' to import. If it is yours, put its folder on PYTH"
    ):
        load("my_unknown_networks.deep:tiny")
