"""The recipe, on one page: how the networks of kobayashi2020 are trained, from JPEG files to weights.

Everything random is derived from (seed, epoch, image), nothing from what happened before. So a training that was
killed and resumed walks the same path as one that was not, whatever the number of decoding workers.

`torchrun --nproc-per-node N -m unitscope train ...` shares every batch out among N processes. They take the same steps
as one process would, except that each normalizes its own part of a batch, and that sums are rounded otherwise.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor, nn

from unitscope.distributed import ProcessGroup, join_processes
from unitscope.durable import lock_folder, whole_file, write_file
from unitscope.errors import BadInput, Failure, few
from unitscope.training_recipe import Recipe

if TYPE_CHECKING:
    from unitscope.networks import Network
    from unitscope.stimuli.images import Images


def train(
    network: Network,
    images: Images,
    *,
    to: str | Path,
    recipe: Recipe,
    validation: Images | None = None,
    workers: int = 1,
    device: str = "cpu",
    checkpoint_every: int = 500,
    progress: Callable[[dict[str, Any]], None] | None = None,
) -> Path:
    """Train a network on labeled images, and leave `weights.safetensors`, `log.csv` and `checkpoint.pt` in a folder.

    The same call resumes where the folder holds a checkpoint of the same recipe, network and images.

    Args:
        network: its weights are changed.
        images: labeled images. The sorted labels are the classes; they must be as many as the network has logits.
        to: the folder.
        recipe: how to train.
        validation: labeled images, on which loss and accuracy are measured after each epoch.
        workers: processes that read images.
        device: "cpu", "cuda", ...
        checkpoint_every: steps between two checkpoints.
        progress: called with {"epoch", "step", "steps", "loss", "rate"} after every step, and with the row of the log
            after every epoch.

    Returns:
        The path of the weights.

    Raises:
        BadInput: labels and logits do not fit.
        Failure: the folder belongs to another training, or another training runs there.

    Example:
        >>> from unitscope.training import Recipe
        >>> images = unitscope.open_images("images")
        >>> unitscope.train(network, images, to="trained", recipe=Recipe(epochs=1, batch=6))
        PosixPath('trained/weights.safetensors')
    """
    with join_processes(device) as (team, own_device), _alone(Path(to), team):
        network.to(own_device)
        return _train(network, images, Path(to), recipe, validation, workers, checkpoint_every, progress, team)


def _alone(folder: Path, team: ProcessGroup) -> AbstractContextManager[None]:
    """The folder's lock, which the first process holds for all."""
    return lock_folder(folder, wait=0, what="training") if team.first else nullcontext()


def _train(
    network: Network,
    images: Images,
    folder: Path,
    recipe: Recipe,
    validation: Images | None,
    workers: int,
    checkpoint_every: int,
    progress: Callable[[dict[str, Any]], None] | None,
    team: ProcessGroup,
) -> Path:
    """What each process does. The first of them writes, and reports progress."""
    from unitscope.networks import save

    classes = _classes(images, network)
    module = network.module.to(memory_format=layout_on(network.device))  # type: ignore[call-overload]
    run = _Run(module, recipe, images.fingerprint, team)
    run.resume(folder / "checkpoint.pt")
    shown = _validation_set(validation, network, classes) if validation is not None and team.first else None
    labels = torch.tensor([classes.index(str(item.label)) for item in images.items])
    steps = _steps(len(images), recipe, team)
    tell = progress if progress is not None and team.first else _silence
    for epoch in range(run.epoch, recipe.epochs):
        started, began_at = time.monotonic(), run.step
        for pictures, targets in _batches(
            images, labels, recipe, epoch=epoch, skip=run.step, workers=workers, team=team
        ):
            x = network.prepare(pictures.to(network.device).float() / 255)
            loss = run.learn(x, targets.to(network.device), steps=steps, among=_in_batch(len(images), recipe, run.step))
            tell({"epoch": epoch, "step": run.step, "steps": steps, **loss})
            if run.step % checkpoint_every == 0:
                run.keep(folder / "checkpoint.pt")
        seconds = time.monotonic() - started
        row = run.close_epoch(
            seen=_seen(len(images), recipe, team), speed=(run.step - began_at) * recipe.batch / seconds
        )
        if shown is not None:
            row |= accuracy(network, *shown, bf16=recipe.bf16)
        run.keep(folder / "checkpoint.pt")
        if team.first:
            _write_log(folder / "log.csv", run.log)
        tell(row)
        team.wait()
    network.module.eval()
    network.classes = tuple(classes)
    weights = folder / "weights.safetensors"
    if team.first:
        save(network, weights)
    team.wait()
    return weights


def layout_on(device: torch.device) -> torch.memory_format:
    """How pictures and kernels lie in memory: channels last on a GPU, where that is quicker.

    Not so on a CPU: there PyTorch 2.13 writes beyond its memory in the gradient of a 1 x 1 convolution with stride 2
    from 4 to 8 channels, channels last.
    """
    return torch.contiguous_format if device.type == "cpu" else torch.channels_last


def _silence(_: dict[str, Any]) -> None:
    """The progress that all processes but the first report."""


class _Run:
    """The state of a training: what a checkpoint keeps."""

    def __init__(self, module: nn.Module, recipe: Recipe, images: str, team: ProcessGroup) -> None:
        self.module, self.recipe, self.images, self.team = module, recipe, images, team
        self.joined = team.average_gradients(module)
        self.optimizer = torch.optim.SGD(
            module.parameters(), lr=recipe.learning_rate, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
        self.epoch, self.step, self.loss, self.right = 0, 0, 0.0, 0
        self.log: list[dict[str, Any]] = []

    def learn(
        self, x: Float[Tensor, "stimulus color height width"], y: Int[Tensor, " stimulus"], *, steps: int, among: int
    ) -> dict[str, float]:
        """One step of stochastic gradient descent, of this process's part of a batch `among` all of its images."""
        # After an epoch's validation the module is in evaluation mode.
        self.joined.train()
        rate = self.recipe.rate(self.epoch + self.step / steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.recipe.bf16):
            logits = self.joined(x.contiguous(memory_format=layout_on(x.device)))
        # Divided by the images of all processes, not of this one: their parts may differ in size.
        loss = nn.functional.cross_entropy(logits.float(), y, reduction="sum") / among
        self.optimizer.zero_grad(set_to_none=True)
        (loss * self.team.size).backward()  # the processes' gradients are averaged
        self.optimizer.step()
        self.step += 1
        mean, right = self.team.sum(loss.item(), float((logits.argmax(1) == y).sum()))
        self.loss += mean * among
        self.right += int(right)
        if not math.isfinite(self.loss):
            raise Failure(
                f"the loss became {self.loss} in epoch {self.epoch}, step {self.step}; a lower learning rate may help."
            )
        return {"loss": mean, "rate": rate}

    def close_epoch(self, *, seen: int, speed: float) -> dict[str, Any]:
        """Write the epoch's row of the log, and begin the next."""
        row = {
            "epoch": self.epoch,
            "size": self.recipe.crop(self.epoch),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train_loss": self.loss / seen,
            "train_top1": self.right / seen,
            "images_per_second": round(speed, 1),
        }
        self.log.append(row)
        self.epoch, self.step, self.loss, self.right = self.epoch + 1, 0, 0.0, 0
        return row

    def keep(self, path: Path) -> None:
        """Write the checkpoint, so that there is a whole one at any time."""
        if not self.team.first:
            return
        with whole_file(path) as temporary:
            torch.save(
                {
                    "module": self.module.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "at": [self.epoch, self.step, self.loss, self.right],
                    "log": self.log,
                    "recipe": asdict(self.recipe),
                    "images": self.images,
                },
                temporary,
            )

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint, if there is one and it is of this training."""
        if not path.exists():
            return
        state = _read_checkpoint(path)
        recipe = asdict(self.recipe)
        foreign = [
            f"{key} {state['recipe'].get(key)} (now {value})"
            for key, value in recipe.items()
            if state["recipe"].get(key) != value
        ]
        if state["images"] != self.images:
            foreign.append("other images")
        if foreign:
            raise Failure(
                f"{path} is of another training: {few(foreign)}. Choose another folder, or the settings it began with."
            )
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.step, self.loss, self.right = state["at"]
        self.log = state["log"]


@torch.no_grad()
def accuracy(
    network: Network,
    pictures: UInt8[Tensor, "stimulus color height width"],
    targets: Int[Tensor, " stimulus"],
    *,
    batch: int = 100,
    bf16: bool = False,
) -> dict[str, float]:
    """Mean cross-entropy (in nats, float64) and the shares of pictures whose label is the first, or among the first
    five, of the logits.
    """
    network.module.eval()
    losses, ranks = [], []
    for i in range(0, len(targets), batch):
        x = network.prepare(pictures[i : i + batch].to(network.device).float() / 255)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            logits = network.module(x.contiguous(memory_format=layout_on(x.device))).double().cpu()
        y = targets[i : i + batch]
        losses.append(nn.functional.cross_entropy(logits, y, reduction="none"))
        # How many logits are higher than that of the label: 0 is right, below 5 is among the first five.
        ranks.append((logits > logits.gather(1, y[:, None])).sum(1))
    loss, rank = torch.cat(losses), torch.cat(ranks)
    return {
        "val_loss": loss.mean().item(),
        "val_top1": (rank < 1).double().mean().item(),
        "val_top5": (rank < 5).double().mean().item(),
    }


class Crops(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """The training pictures of one epoch, decoded, cropped and flipped by (seed, epoch, image) alone."""

    def __init__(self, images: Images, labels: Int[Tensor, " stimulus"], recipe: Recipe, *, epoch: int) -> None:
        self.images, self.labels, self.recipe, self.epoch = images, labels, recipe, epoch

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[UInt8[Tensor, "color height width"], Int[Tensor, ""]]:
        # A generator for each image: neither the order nor the number of workers changes a crop.
        rng = np.random.default_rng([self.recipe.seed, self.epoch, index])
        with Image.open(io.BytesIO(self.images.bytes(index))) as file:
            picture = file.convert("RGB")
        side = self.recipe.crop(self.epoch)
        box = szegedy_crop(picture.size, rng, smallest_area=self.recipe.smallest_area)
        picture = picture.resize((side, side), Image.Resampling.BILINEAR, box=box)
        if rng.random() < self.recipe.flip:
            picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1), self.labels[index]


def szegedy_crop(size: tuple[int, int], rng: np.random.Generator, *, smallest_area: float) -> tuple[int, int, int, int]:
    """A box (left, upper, right, lower) of random area (`smallest_area` to 1 of the picture) and aspect (3/4 to 4/3).

    Source: szegedy2015, as in torchvision's RandomResizedCrop: ten tries, then the largest central box of an allowed
    aspect.
    """
    width, height = size
    for _ in range(10):
        area = width * height * rng.uniform(smallest_area, 1)
        aspect = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, upper = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, upper, left + w, upper + h
    w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
    left, upper = (width - w) // 2, (height - h) // 2
    return left, upper, left + w, upper + h


def _steps(count: int, recipe: Recipe, team: ProcessGroup) -> int:
    """Steps in an epoch. A last batch of which a process would see a single picture, or none, from which batch
    normalization learns nothing, is left out.
    """
    return count // recipe.batch + (count % recipe.batch >= 2 * team.size)


def _in_batch(count: int, recipe: Recipe, step: int) -> int:
    """How many images a step of an epoch shows, in all processes."""
    return min(recipe.batch, count - step * recipe.batch)


def _seen(count: int, recipe: Recipe, team: ProcessGroup) -> int:
    """How many images an epoch shows."""
    return min(count, _steps(count, recipe, team) * recipe.batch)


def _batches(
    images: Images,
    labels: Int[Tensor, " stimulus"],
    recipe: Recipe,
    *,
    epoch: int,
    skip: int,
    workers: int,
    team: ProcessGroup,
) -> Iterator[tuple[Tensor, Tensor]]:
    # The order of an epoch depends on seed and epoch alone, so a resumed training skips exactly what it has seen.
    order = np.random.default_rng([recipe.seed, epoch]).permutation(len(images)).tolist()
    steps = range(skip, _steps(len(images), recipe, team))
    batches = [team.take_share(order[i * recipe.batch : (i + 1) * recipe.batch]) for i in steps]
    crops = Crops(images, labels, recipe, epoch=epoch)
    return iter(torch.utils.data.DataLoader(crops, batch_sampler=batches, num_workers=workers))


def _classes(images: Images, network: Network) -> list[str]:
    labels = {item.label for item in images.items}
    if None in labels:
        raise BadInput(f"training needs a label for every image; {images.source} has images without one.")
    classes = sorted(label for label in labels if label is not None)
    with torch.no_grad():
        logits = network(torch.zeros(1, network.inputs, *network.size, device=network.device)).shape[1]
    if logits != len(classes):
        raise BadInput(
            f"{images.source} has {len(classes)} labels and {network.name} {logits} logits; they must be as many."
        )
    return classes


def _validation_set(images: Images, network: Network, classes: list[str]) -> tuple[Tensor, Tensor]:
    from unitscope.stimuli.presentation import Presentation

    foreign = sorted({str(item.label) for item in images.items} - set(classes))
    if foreign:
        raise BadInput(f"{images.source} has labels that are not trained: {few(foreign)}.")
    presentation = Presentation(network.size)
    pictures = [torch.from_numpy(presentation.present(images.bytes(i))).permute(2, 0, 1) for i in range(len(images))]
    return torch.stack(pictures), torch.tensor([classes.index(str(item.label)) for item in images.items])


def _read_checkpoint(path: Path) -> dict[str, Any]:
    try:
        # weights_only: loading a checkpoint must not run code.
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        state.update({name: state[name] for name in ("module", "optimizer", "at", "log", "recipe", "images")})
    except Exception as error:
        raise Failure(f"{path} is damaged ({type(error).__name__}). Delete it to begin the training anew.") from error
    return state


def _write_log(path: Path, rows: list[dict[str, Any]]) -> None:
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    write_file(path, file.getvalue().encode())
