"""Networks: a module together with how it must be shown pictures, and where its weights come from.

The residual networks themselves are in `residual`, weights files in `weights`, models of other libraries in
`model_zoos`, networks whose weights are an installed package in `packaged_weights`; `load` gives all of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.resources
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unitscope.errors import BadInput, Failure, near, unknown_name
from unitscope.model_zoos import ZOOS, FoundModel, made_by, torchvision_names
from unitscope.packaged_weights import PACKAGED, from_package, random_network
from unitscope.precision import picture_type, types_of
from unitscope.preprocessing import IMAGENET, Preprocessing
from unitscope.residual import RESIDUAL_NAMES, BasicBlock, Bottleneck, ResNet, find_architecture, resnet
from unitscope.weights import WEIGHT_SUFFIXES, Weights, bare_state, fit_weights, read_weights, write_weights

__all__ = ["SHIPPED", "BasicBlock", "Bottleneck", "Network", "ResNet", "load", "resnet", "save"]

SHIPPED = {f"shipped:{name}": f"{name}_w32_dogs20.safetensors" for name in ("resnet34", "plainnet34")}
"""The pair that comes with the package: width 32, trained on 20 classes, most of them dogs, at 112 pixels."""


class Network:
    """A module together with how it must be shown pictures. Calling it gives logits.

    Pictures are RGB in [0, 1], Tensor[stimulus color height width]; only the network normalizes. Its facts: `module`,
    put into evaluation mode; `size` (height, width); `mean` and `std`, a number per input channel, on the scale of
    the pictures and in the network's own channel order; `order`, "RGB", "BGR", or "" where the channels are no such
    colors; `inputs`, how many they are; `name`; `weights`, where they came from; `classes`, the names of the logits,
    or None. Raises BadInput where these contradict each other.

    Example:
        >>> import torch
        >>> module = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU())
        >>> unitscope.Network(module, size=32, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), name="two layers")
        <Network two layers: ... 224 parameters, pictures RGB 32 x 32, ...>
        >>> network(torch.rand(5, 3, 32, 32)).shape  # stimulus class
        torch.Size([5, 2])
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        size: int | tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
        order: str | None = None,
        name: str | None = None,
        weights: str = "as given",
        classes: Sequence[str] | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise BadInput(
                f"a Network is made of a torch.nn.Module; a {type(module).__name__} came. `unitscope.load` takes names."
            )
        known = Preprocessing.understand(size=size, mean=mean, std=std, order=order, classes=classes)
        if known.size is None or known.mean is None or known.std is None:
            raise BadInput("a Network must know how it is shown pictures: give size, mean and std.")
        self.module = module
        self.size, self.mean, self.std, self.classes = known.size, known.mean, known.std, known.classes
        self.inputs = len(known.mean)
        self.order = ("RGB" if self.inputs == 3 else "") if order is None else order
        self.name = type(module).__name__ if name is None else name
        self.weights = weights
        self._fingerprint: tuple[Any, str] | None = None
        self._accepted: tuple[tuple[torch.dtype, ...], torch.dtype | None] | None = None
        with contextlib.suppress(NotImplementedError):  # what torch.export made has one mode only
            module.eval()

    def __call__(self, pictures: Float[Tensor, "stimulus color height width"]) -> Float[Tensor, "stimulus ..."]:
        """The logits. Pictures must have the network's size and lie in [0, 1]; what is not plainly 0..255 is let
        pass.

        Where the module returns several tensors, what it calls `logits` (or `out`), else the first tensor.
        Differentiable. Raises BadInput for pictures of another shape, of whole numbers, or in 0..255.
        """
        _check_shape(pictures, self.inputs)
        if tuple(pictures.shape[2:]) != self.size:
            came, expected = (" x ".join(map(str, size)) for size in (pictures.shape[2:], self.size))
            raise BadInput(
                f"{self.name} is shown pictures of {expected}; these are {came}. Resize them, or load it with size=."
            )
        # Means above 1 belong to networks that are shown pictures on another scale than 0..1.
        if max(self.mean) <= 1:
            _check_range(pictures)
        return logits_of(self.module(self.prepare(pictures)), self.name)

    def prepare(
        self, pictures: Float[Tensor, "stimulus color height width"]
    ) -> Float[Tensor, "stimulus color height width"]:
        """The pictures as the module wants them: on its device, in its precision and channel order, less `mean`,
        divided by `std`.

        Of any height and width, so that crops can be shown to `module`, and of any range. Differentiable. Raises
        BadInput for other shapes and for whole numbers.
        """
        _check_shape(pictures, self.inputs)
        dtype = self.dtype
        pictures = pictures if dtype is None else pictures.to(self.device, dtype)
        if self.order == "BGR":
            pictures = pictures.flip(1)
        mean, std = (pictures.new_tensor(values).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return (pictures - mean) / std

    @property
    def fingerprint(self) -> str:
        """sha256, in hex, over names, types, shapes and bytes of the weights, and over size, mean, std and channel
        order.

        The same on every device. It is kept until a weight changes, also through `.data`, which torch does not count.
        """
        state = {name: tensor for name, tensor in self.module.state_dict().items() if isinstance(tensor, Tensor)}
        # A write through `.data` leaves the version as it was; then the sums change.
        stamp = [(name, t.data_ptr(), 0 if t.is_inference() else t._version, axis_sums(t)) for name, t in state.items()]
        if self._fingerprint is None or self._fingerprint[0] != stamp:
            self._fingerprint = stamp, _digest(state, [self.size, self.mean, self.std, self.order])
        return self._fingerprint[1]

    @property
    def dtype(self) -> torch.dtype | None:
        """The type in which the module is shown pictures: that of its weights; where these are of several types, the
        first with which it can be run; None for a module without weights of floating point.
        """
        types = types_of(self.module)
        if self._accepted is None or self._accepted[0] != types:
            self._accepted = types, picture_type(self.module, (self.inputs, *self.size))
        return self._accepted[1]

    @property
    def device(self) -> torch.device:
        """Where the weights are; the CPU for a module without any."""
        return next((tensor.device for tensor in self._tensors()), torch.device("cpu"))

    def to(self, device: torch.device | str) -> Network:
        """Move the module to a device, and give back this same network."""
        self.module.to(device)
        return self

    def __repr__(self) -> str:
        parameters = sum(parameter.numel() for parameter in self.module.parameters())
        pictures = f"pictures {self.order or f'of {self.inputs} channels'} {self.size[0]} x {self.size[1]}"
        classes = [f"{len(self.classes)} named classes"] if self.classes else []
        facts = [f"weights {self.weights}", f"{parameters:,} parameters", pictures, *classes, str(self.device)]
        return f"<Network {self.name}: {', '.join(facts)}>"

    def _tensors(self) -> Iterator[Tensor]:
        yield from self.module.parameters()
        yield from self.module.buffers()


def load(
    model: str,
    weights: str | os.PathLike[str] | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    order: str | None = None,
    classes: int | Sequence[str] | None = None,
    width: int | None = None,
    seed: int = 0,
) -> Network:
    """A network by its name, ready to be shown pictures.

    Each fact that no argument gives is taken from the metadata of the weights file, else from what the zoo says of its
    model, else it is 224 pixels with ImageNet's mean and standard deviation.

    Args:
        model: one of our own ("resnet34", "plainnet34", ..., 18 to 152); "shipped:resnet34" or "shipped:plainnet34"
            (the trained pair in the package); "lite0" (EfficientNet-Lite0 with ImageNet weights, from the package of
            the extra `network`); "torchvision:NAME"; "timm:NAME"; or "package.module:factory" (a function without
            arguments that makes a module).
        weights: a file (safetensors, or .pt/.pth), or for torchvision and timm the name of published weights, "DEFAULT"
            for the best. Without weights they are random, drawn from `seed`.
        size: pixels of the pictures, or (height, width).
        mean: a number per input channel, on the scale of the pictures (0..1).
        std: a number above 0 per input channel, on the same scale.
        order: "RGB", "BGR", or "" where the channels are no such colors.
        classes: the number of logits, or their names. Read off the weights where there are weights.
        width: channels of the first stage, for our own networks. Read off the weights where there are weights.
        seed: of random weights. No other random state is touched.

    Raises:
        UnknownName: there is no network of this name.
        BadInput: the weights are absent, broken, or of another network.
        Failure: a library is missing, or a download fails.

    Example:
        >>> unitscope.load("shipped:resnet34").size
        (112, 112)
        >>> unitscope.load("resnet18", size=32, width=4, classes=["cat", "dog"])
        <Network resnet18: weights random (seed 0), 44,838 parameters, pictures RGB 32 x 32, 2 named classes, cpu>
    """
    _check_model(model, seed)
    names = None if isinstance(classes, int) else classes
    asked = Preprocessing.understand(size=size, mean=mean, std=std, order=order, classes=names)
    logits = classes if isinstance(classes, int) else len(names) if names else None
    with contextlib.ExitStack() as stack:
        if model in SHIPPED:
            weights = stack.enter_context(_shipped(model, weights))
        file, published = _source(model, weights)
        stack.enter_context(_chance(seed))
        inputs = len(asked.mean) if asked.mean else None
        if model.removeprefix("shipped:") in RESIDUAL_NAMES:
            found = _own(model.removeprefix("shipped:"), file, width=width, classes=logits, inputs=inputs)
        elif width is not None:
            raise BadInput(
                f"width is for our own networks ({RESIDUAL_NAMES[0]} ... {RESIDUAL_NAMES[-1]}); {model!r} has none."
            )
        elif model in PACKAGED:
            made = from_package if file is None else random_network
            found = made(model, logits=logits, inputs=inputs)
        else:
            found = _foreign(model, published, logits=logits, inputs=inputs)
    if file is not None:
        fit_weights(found.module, file, name=model, hint=_resemblance(model, file))
    return _assembled(model, found, file, asked, seed=seed)


def save(network: Network, path: str | os.PathLike[str], *, half: bool = False) -> Path:
    """Write the weights of a network as safetensors, with how the network must be shown pictures in the metadata.

    Args:
        network: its weights are written.
        path: the file. It is written whole or not at all.
        half: store kernels and matrices in half precision; `load` makes float32 of them.

    Returns:
        The path of the file.

    Raises:
        Failure: the disk refuses.

    Example:
        >>> unitscope.save(network, "weights.safetensors")
        PosixPath('weights.safetensors')
        >>> unitscope.load("resnet18", "weights.safetensors").classes
        ('cat', 'dog')
    """
    about = Preprocessing(network.size, network.mean, network.std, network.order, network.classes)
    return write_weights(path, bare_state(network.module.state_dict()), about, half=half)


def _check_model(model: Any, seed: Any) -> None:
    if not isinstance(model, str):
        advice = "A module is wrapped: unitscope.Network(module, size=..., mean=..., std=...)."
        raise BadInput(f"load takes the name of a network; a {type(model).__name__} came. {advice}")
    if Path(model).suffix in WEIGHT_SUFFIXES:
        raise BadInput(
            f"{model!r} is a weights file; which network is it for? load('resnet34', weights={model!r}), for instance."
        )
    if not isinstance(seed, int):
        raise BadInput(f"the seed is {seed!r}; expected a whole number.")


def _source(model: str, weights: str | os.PathLike[str] | None) -> tuple[Weights | None, str | None]:
    """What `weights` stands for: a file, which is read, or the name of published weights."""
    if weights is None:
        return None, None
    path = Path(weights).expanduser()
    if path.suffix in WEIGHT_SUFFIXES or path.name != str(weights) or path.exists():
        return read_weights(path), None
    if model.partition(":")[0] in ZOOS:
        return None, str(weights)
    advice = "Give a safetensors or .pt/.pth file; published weights have torchvision:NAME and timm:NAME."
    raise BadInput(
        f"there is no weights file {str(weights)!r}, and none are published under that name for {model}. {advice}"
    )


@contextlib.contextmanager
def _shipped(model: str, weights: object) -> Iterator[Path]:
    """The file of a shipped network, for as long as it is needed."""
    if weights is not None:
        raise BadInput(
            f"{model} comes with its weights; for others: load({model.removeprefix('shipped:')!r}, weights=FILE)."
        )
    resource = importlib.resources.files("unitscope").joinpath("data", SHIPPED[model])
    if not resource.is_file():
        advice = "Install unitscope anew, or train one: `unitscope train --help`."
        raise Failure(f"{SHIPPED[model]} is missing from this installation of unitscope. {advice}")
    with importlib.resources.as_file(resource) as path:
        yield path


@contextlib.contextmanager
def _chance(seed: int) -> Iterator[None]:
    """Draw random weights on the CPU from `seed`, and leave every random state as it was."""
    # On the CPU, so that a seed gives the same weights whatever the default device is.
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        yield


def _own(name: str, file: Weights | None, *, width: int | None, classes: int | None, inputs: int | None) -> FoundModel:
    """One of our own networks, in the shape that the weights have where it is not asked for."""
    asked = {"width": width, "classes": classes, "inputs": inputs}
    shape = {what: number for what, number in asked.items() if number is not None}
    if file is not None and find_architecture(file.state):
        first, last = file.state["conv1.weight"], file.state["fc.weight"]
        # What is asked for counts before the file; but the number of input channels is the file's, and `_assembled`
        # compares it with the mean.
        shape = {"width": first.shape[0], "classes": last.shape[0]} | shape | {"inputs": first.shape[1]}
    module = resnet(name, **shape)
    return FoundModel(module, logits=module.fc.out_features, inputs=module.conv1.in_channels)


def _foreign(model: str, published: str | None, *, logits: int | None, inputs: int | None) -> FoundModel:
    """A network from elsewhere: "torchvision:NAME", "timm:NAME" or "package.module:factory"."""
    kind, _, name = model.partition(":")
    if kind == "shipped" or not kind or not name:
        known = (*RESIDUAL_NAMES, *SHIPPED, *PACKAGED)
        own = near(model, known)
        elsewhere = [] if own else near(model, torchvision_names(), most=1)
        advice = "".join(f"torchvision has 'torchvision:{other}'. " for other in elsewhere)
        advice += "Other forms are torchvision:NAME, timm:NAME and package.module:factory."
        raise unknown_name("network", model, known, where="unitscope", advice=advice)
    if kind in ZOOS:
        return ZOOS[kind](name, published, logits=logits, inputs=inputs)
    made = made_by(kind, name)
    if isinstance(made, Network):
        about = Preprocessing(made.size, made.mean, made.std, made.order, made.classes)
        return FoundModel(made.module, made.weights, about, inputs=made.inputs)
    if not isinstance(made, nn.Module):
        raise BadInput(f"{model} gave a {type(made).__name__}; expected a torch.nn.Module or a unitscope.Network.")
    return FoundModel(made, f"as {model} makes them")


def _assembled(model: str, found: FoundModel, file: Weights | None, asked: Preprocessing, *, seed: int) -> Network:
    """Together: what was asked for, what the file says, what the zoo says, and what is assumed, in this order."""
    known = asked.otherwise(file.preprocessing if file else Preprocessing()).otherwise(found.preprocessing)
    channels = len(known.mean or IMAGENET.mean or ())
    if found.inputs not in (None, channels):
        came = f"mean has {channels} numbers" if known.mean else "neither mean nor std are known"
        channel = "channel" if found.inputs == 1 else "channels"
        raise BadInput(f"{model} has {found.inputs} input {channel}, and {came}; give one number of each per channel.")
    if found.logits and known.classes and len(known.classes) != found.logits:
        raise BadInput(
            f"{model} has {found.logits} logits with these weights, and {len(known.classes)} names of classes came."
        )
    # Only now: the numbers of channels and of classes were compared with what somebody said, not with what is assumed.
    known = known.otherwise(IMAGENET)
    label = file.path.name if file else found.weights or f"random (seed {seed})"
    facts = {"size": known.size, "mean": known.mean, "std": known.std, "order": known.order, "classes": known.classes}
    return Network(found.module, name=model, weights=label, **facts)  # type: ignore[arg-type]


def _resemblance(model: str, file: Weights) -> str:
    """A hint for weights that do not fit `model`, where they are those of another of our networks."""
    name = find_architecture(file.state)
    return "" if name is None or model.endswith(name) else f"The file looks like {name}."


def _check_shape(pictures: Tensor, inputs: int) -> None:
    expected = f"Tensor[stimulus color height width] with {inputs} input channels, floating point, 0..1"
    if not isinstance(pictures, Tensor):
        raise BadInput(f"the pictures are a {type(pictures).__name__}; expected a {expected}.")
    if pictures.ndim != 4 or pictures.shape[1] != inputs:
        advice = " One picture alone needs pictures[None]." if pictures.ndim == 3 else ""
        raise BadInput(f"the pictures have the shape {list(pictures.shape)}; expected a {expected}.{advice}")
    if not pictures.is_floating_point():
        advice = " Divide them by 255." if pictures.dtype == torch.uint8 else ""
        raise BadInput(f"the pictures are {str(pictures.dtype).removeprefix('torch.')}; expected a {expected}.{advice}")


def _check_range(pictures: Tensor) -> None:
    if pictures.device.type == "meta" or not pictures.numel():
        return
    highest = float(pictures.detach().amax())
    # Not 1: optimal stimuli may lie beyond the bounds of photographs. Pictures in 0..255 lie far beyond.
    if highest > 16:
        raise BadInput(f"the pictures reach {highest:g}, which looks like 0..255; expected 0..1: divide them by 255.")


def logits_of(output: Any, name: str) -> Tensor:
    """The first tensor of what a module returned, or what it calls its logits."""
    if isinstance(output, Tensor):
        return output
    # `logits` is GoogLeNet's and Hugging Face's word, `out` that of torchvision's segmentation.
    for field in ("logits", "out"):
        value = output.get(field) if isinstance(output, Mapping) else getattr(output, field, None)
        if isinstance(value, Tensor):
            return value
    values = output.values() if isinstance(output, Mapping) else output if isinstance(output, Sequence) else ()
    for value in values:
        if isinstance(value, Tensor | Mapping | Sequence) and not isinstance(value, str):
            return logits_of(value, name)
    raise BadInput(f"{name} returned a {type(output).__name__} without a tensor; expected logits.")


def axis_sums(tensor: Tensor) -> tuple[float, ...]:
    """Two numbers made of the sums over a tensor's rows and columns: they change when a number changes, or when two are
    exchanged. Much quicker than a digest.
    """
    if not tensor.is_floating_point() or tensor.numel() < 2 or tensor.is_meta:
        return () if tensor.is_meta or tensor.numel() != 1 else (float(tensor),)
    with torch.no_grad():
        matrix = tensor.detach().reshape(tensor.shape[0], -1)
        rows, cols = (matrix.sum(axis, dtype=torch.float64) for axis in (1, 0))
        both = torch.cat([rows, cols])
        # A plain sum stays the same when two rows are exchanged.
        weights = torch.arange(1, len(both) + 1, dtype=torch.float64, device=both.device)
        return float(both.sum()), float((both * weights).sum())


def _digest(state: Mapping[str, Tensor], preprocessing: list[Any]) -> str:
    digest = hashlib.sha256()
    # Sorted: the order in which a module registers its tensors does not count.
    for name in sorted(state):
        if state[name].is_meta:
            raise BadInput(f"{name} is on the meta device and has no numbers; give the network its weights first.")
        tensor = state[name].detach().cpu()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    digest.update(json.dumps(preprocessing).encode())
    return digest.hexdigest()
