"""The recipe: its numbers, its randomness, and that a killed training ends where an undisturbed one does."""

from __future__ import annotations

import csv
import io
import math
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.power import watched
from unitscope.distributed import ProcessGroup
from unitscope.errors import BadInput, Failure
from unitscope.networks import Network, load
from unitscope.stimuli.images import open_images
from unitscope.training import Crops, Recipe, _Run, _steps, accuracy, szegedy_crop, train

TINY = Recipe(epochs=2, batch=4, learning_rate=0.05, size=32, seed=3)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures of two labels: red and blue noise."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for label, color in (("blue", 2), ("red", 0)):
        (folder / label).mkdir()
        for number in range(5):
            pixels = rng.integers(0, 80, (40, 48, 3), dtype=np.uint8)
            pixels[..., color] += 150
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


def tiny_network() -> Network:
    """So narrow that PyTorch 2.13 would damage memory in its gradients, were channels last on a CPU."""
    return load("resnet18", width=4, classes=2, size=32, seed=0)


def test_the_defaults_are_those_of_the_paper():
    recipe = Recipe()
    assert (recipe.learning_rate, recipe.momentum, recipe.weight_decay) == (0.01, 0.9, 1e-4)
    assert (recipe.batch, recipe.epochs, recipe.size, recipe.smallest_area) == (256, 90, 224, 0.08)
    assert [recipe.rate(epoch) for epoch in (0, 29.9, 30, 59.9, 60, 89)] == pytest.approx(
        [1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4]
    )


def test_a_warm_cosine_rises_and_falls_to_zero():
    recipe = Recipe(epochs=10, learning_rate=1.0, schedule="cosine", warmup=2)
    assert [recipe.rate(p) for p in (1, 2, 6, 10)] == pytest.approx([0.5, 1.0, 0.5, 0.0])


def test_growing_crops_reach_the_full_size_at_three_quarters():
    recipe = Recipe(epochs=8, size=112, first_size=64)
    assert [recipe.crop(epoch) for epoch in range(8)] == [64, 64, 80, 80, 96, 96, 112, 112]


def test_szegedy_crops_stay_inside_and_within_the_allowed_areas_and_aspects():
    rng = np.random.default_rng(0)
    boxes = np.array([szegedy_crop((200, 150), rng, smallest_area=0.08) for _ in range(2000)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    assert boxes.min() >= 0
    assert (boxes[:, 2] <= 200).all()
    assert (boxes[:, 3] <= 150).all()
    share = width * height / 30_000
    assert 0.078 < share.min() < 0.1
    assert share.max() > 0.85
    aspect = width / height
    assert 0.72 < aspect.min() < 0.80
    assert 1.25 < aspect.max() < 1.37


def test_a_crop_depends_on_seed_epoch_and_image_only(pictures):
    images, labels = open_images(pictures), torch.zeros(10, dtype=torch.int64)
    first = Crops(images, labels, TINY, epoch=1)
    again = Crops(images, labels, TINY, epoch=1)
    assert torch.equal(first[7][0], again[7][0])
    assert not torch.equal(first[7][0], Crops(images, labels, TINY, epoch=2)[7][0])


def test_flips_are_as_often_as_the_recipe_says(pictures):
    images, labels = open_images(pictures), torch.zeros(10, dtype=torch.int64)
    never, always = (Crops(images, labels, replace(TINY, flip=flip), epoch=1) for flip in (0.0, 1.0))
    for index in range(10):
        picture = Image.open(io.BytesIO(images.bytes(index)))
        box = szegedy_crop(picture.size, np.random.default_rng([3, 1, index]), smallest_area=0.08)
        plain = np.array(picture.resize((32, 32), Image.Resampling.BILINEAR, box=box)).transpose(2, 0, 1)
        np.testing.assert_array_equal(never[index][0], plain)
        np.testing.assert_array_equal(always[index][0], plain[:, :, ::-1])


def test_accuracy_counts_labels_among_the_first_logits():
    network = Network(torch.nn.Flatten(), size=1, mean=(0.0,) * 6, std=(1.0,) * 6)
    pictures = torch.tensor([[9, 8, 7, 6, 5, 0], [0, 9, 8, 7, 6, 5]], dtype=torch.uint8).reshape(2, 6, 1, 1)
    found = accuracy(network, pictures, torch.tensor([0, 0]))
    assert (found["val_top1"], found["val_top5"]) == (0.5, 0.5)
    logits = pictures.flatten(1).double() / 255
    assert found["val_loss"] == pytest.approx(
        torch.nn.functional.cross_entropy(logits, torch.tensor([0, 0])).item(), abs=1e-6
    )


def test_training_learns_red_from_blue_and_leaves_weights_that_load(pictures, tmp_path):
    # The rate falls to zero, so that the running statistics of the normalizations catch up with the last weights.
    weights = train(
        tiny_network(), open_images(pictures), to=tmp_path,
        recipe=Recipe(epochs=30, batch=10, learning_rate=0.02, schedule="cosine", size=32),
        validation=open_images(pictures), workers=0,
    )  # fmt: skip
    network = load("resnet18", weights=weights)
    assert network.classes == ("blue", "red")
    rows = list(csv.DictReader((tmp_path / "log.csv").read_text().splitlines()))
    assert [int(row["epoch"]) for row in rows] == list(range(30))
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    assert float(rows[-1]["val_top1"]) == 1.0


def test_every_step_is_sgd_at_the_rate_of_its_place_within_the_epoch():
    """By hand: v <- momentum v + gradient + decay w; w <- w - rate v, the rate anew for each step."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(4, 3, 2, 2, generator=generator), torch.tensor([0, 1, 1, 0])
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2, bias=False))
    recipe = Recipe(epochs=2, learning_rate=1.0, momentum=0.5, weight_decay=0.1, schedule="cosine")
    run, velocity = _Run(module, recipe, "", ProcessGroup()), torch.zeros(2, 12)
    for step in range(4):
        before = module[1].weight.detach().clone()
        told = run.learn(x, y, steps=4, among=4)
        rate = 0.5 * (1 + math.cos(math.pi * step / 8))
        velocity = 0.5 * velocity + module[1].weight.grad + 0.1 * before
        assert told["rate"] == pytest.approx(rate)
        torch.testing.assert_close(module[1].weight.detach(), before - rate * velocity)


def test_batch_normalizations_learn_from_what_is_trained_and_not_from_what_is_validated(pictures, tmp_path):
    network, images = tiny_network(), open_images(pictures)
    recipe = Recipe(epochs=2, batch=5, size=32)
    train(network, images, to=tmp_path, recipe=recipe, validation=images, workers=0)
    assert network.module.bn1.num_batches_tracked == 4  # two steps in each of two epochs


KILLED = """
import os, signal, sys, torch
torch.set_num_threads(1)
from unitscope.networks import load
from unitscope.stimuli.images import open_images
from unitscope.training import Recipe, train
told = []
def progress(fact):
    told.append(fact)
    if len(told) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
train(load("resnet18", width=4, classes=2, size=32, seed=0), open_images(sys.argv[1]), to=sys.argv[2],
      recipe=Recipe(epochs=2, batch=4, learning_rate=0.05, size=32, seed=3), workers=0,
      checkpoint_every=2, progress=progress)
"""


def test_a_training_that_was_killed_twice_ends_with_the_same_bits(pictures, tmp_path):
    def run(folder: str, die_at: int) -> int:
        command = [sys.executable, "-c", KILLED, str(pictures), str(tmp_path / folder), str(die_at)]
        return subprocess.run(command, capture_output=True, timeout=120).returncode

    assert run("undisturbed", -1) == 0
    assert run("killed", 3) == -signal.SIGKILL  # in the first epoch, after a checkpoint
    assert run("killed", 3) == -signal.SIGKILL
    assert run("killed", -1) == 0
    whole, resumed = (load_file(tmp_path / folder / "weights.safetensors") for folder in ("undisturbed", "killed"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    logs = [(tmp_path / folder / "log.csv").read_text().splitlines() for folder in ("undisturbed", "killed")]
    assert [row.rsplit(",", 1)[0] for row in logs[0]] == [row.rsplit(",", 1)[0] for row in logs[1]]  # all but the speed


def test_a_folder_of_another_training_is_refused(pictures, tmp_path):
    train(tiny_network(), open_images(pictures), to=tmp_path, recipe=Recipe(epochs=1, batch=5, size=32), workers=0)
    with pytest.raises(Failure, match=r"another training: batch 5 \(now 4\)"):
        train(tiny_network(), open_images(pictures), to=tmp_path, recipe=Recipe(epochs=1, batch=4, size=32), workers=0)


def test_labels_and_logits_must_be_as_many(pictures, tmp_path):
    network = load("resnet18", width=4, classes=3, size=32, seed=0)
    with pytest.raises(BadInput, match="has 2 labels and resnet18 3 logits"):
        train(network, open_images(pictures), to=tmp_path, recipe=TINY)


@pytest.mark.usefixtures("unchecked")
def test_a_recipe_that_cannot_be_is_refused():
    with pytest.raises(BadInput, match="is no schedule; choose"):
        Recipe(schedule="linear")


TOGETHER = """
import sys, torch
from torch import nn
from unitscope.networks import Network
from unitscope.stimuli.images import open_images
from unitscope.training import Recipe, train
torch.set_num_threads(1)
torch.manual_seed(0)
module = nn.Sequential(nn.Conv2d(3, 4, 5, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
train(Network(module, size=32, mean=(0.5,) * 3, std=(0.5,) * 3), open_images(sys.argv[1]), to=sys.argv[2], workers=0,
      recipe=Recipe(epochs=2, batch=5, learning_rate=0.5, size=32, seed=3), validation=open_images(sys.argv[1]),
      progress=lambda fact: print(sorted(fact)))
"""


@pytest.mark.slow
def test_two_processes_take_the_same_steps_as_one(pictures, tmp_path):
    """Without batch normalization: gradients of all parts of a batch, also of unequal ones, add up to that of one."""
    script = tmp_path / "together.py"
    script.write_text(TOGETHER)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    alone, torchrun = [sys.executable], [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    told = {}
    for name, start in (("alone", alone), ("together", [*torchrun, "--nproc-per-node", "2"])):
        command = [*start, str(script), str(pictures), str(tmp_path / name)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
        assert done.returncode == 0, done.stderr
        told[name] = done.stdout
    assert told["alone"] == told["together"]  # the second process is silent
    whole, shared = (load_file(tmp_path / name / "weights.safetensors") for name in told)
    for name in whole:
        torch.testing.assert_close(shared[name], whole[name], rtol=1e-4, atol=1e-6)
    rows = [list(csv.DictReader((tmp_path / name / "log.csv").read_text().splitlines())) for name in told]
    for mine, theirs in zip(*rows, strict=True):
        for column in ("train_loss", "train_top1", "val_loss"):
            assert float(mine[column]) == pytest.approx(float(theirs[column]), rel=1e-4)


def test_a_last_batch_too_small_for_all_processes_is_left_out():
    recipe = Recipe(batch=4)
    assert [_steps(count, recipe, ProcessGroup()) for count in (8, 9, 10)] == [2, 2, 3]
    assert [_steps(count, recipe, ProcessGroup(0, 2)) for count in (8, 11, 12)] == [2, 2, 3]


def test_two_equal_trainings_leave_the_same_bytes(pictures, tmp_path):
    """The metadata of weights are in the order of names, which the library leaves to chance."""
    weights = []
    for name in "abc":
        recipe = Recipe(epochs=1, batch=5, size=32)
        path = train(tiny_network(), open_images(pictures), to=tmp_path / name, recipe=recipe, workers=0)
        weights.append(path.read_bytes())
    assert weights[0] == weights[1] == weights[2]


def test_a_second_training_in_one_folder_is_refused_and_the_first_ends(pictures, tmp_path):
    images, recipe, refused = open_images(pictures), Recipe(epochs=1, batch=5, size=32), []

    def at_the_same_time() -> None:
        try:
            train(tiny_network(), images, to=tmp_path, recipe=recipe, workers=0)
        except Failure as story:
            refused.append(str(story))

    def tell(_row: object) -> None:
        if not refused:
            other = threading.Thread(target=at_the_same_time)
            other.start()
            other.join()

    assert train(tiny_network(), images, to=tmp_path, recipe=recipe, workers=0, progress=tell).is_file()
    assert len(refused) == 1
    assert "another training is writing to" in refused[0]


def test_a_torn_checkpoint_is_told(pictures, tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"")
    with pytest.raises(Failure, match=r"checkpoint\.pt is damaged .* Delete it to begin the training anew"):
        train(tiny_network(), open_images(pictures), to=tmp_path, recipe=TINY, workers=0)


def test_a_power_cut_leaves_the_training_resumable(pictures, tmp_path, monkeypatch):
    """All that a power cut may leave is whole: nothing yet, or a checkpoint with which it goes on."""
    recipe = Recipe(epochs=2, batch=10, size=32)
    with watched(tmp_path / "t", monkeypatch) as disk:
        whole = train(tiny_network(), open_images(pictures), to=tmp_path / "t", recipe=recipe, workers=0).read_bytes()
    found = [tree for _, tree in disk.after()]
    assert {frozenset(tree) for tree in found} == {
        frozenset(names)
        for names in (
            (), ("checkpoint.pt",), ("checkpoint.pt", "log.csv"), ("checkpoint.pt", "log.csv", "weights.safetensors")
        )
    }  # fmt: skip
    assert all(tree.get("weights.safetensors", whole) == whole for tree in found)
    checkpoints = {tree["checkpoint.pt"] for tree in found if "checkpoint.pt" in tree}
    assert len(checkpoints) == 2
    for number, checkpoint in enumerate(checkpoints):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        (folder / "checkpoint.pt").write_bytes(checkpoint or b"")
        assert train(tiny_network(), open_images(pictures), to=folder, recipe=recipe, workers=0).read_bytes() == whole
