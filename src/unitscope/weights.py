"""Weights on disk: read without wrappers and prefixes, fitted strictly, written whole or not at all.

A weights file is safetensors, or what `torch.save` wrote; the latter is opened with `weights_only=True`, so that no
file can run code. How pictures must be shown travels in the metadata of a safetensors file, as JSON:
`unitscope.size`, `unitscope.mean`, `unitscope.std`, `unitscope.order`, `unitscope.classes`.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from unitscope.durable import whole_file
from unitscope.errors import BadInput, Failure, few, near
from unitscope.preprocessing import Preprocessing

WEIGHT_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".tar")
WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net", "module", "weights")
"""Keys under which training scripts put the weights, next to the optimizer and the epoch."""

NESTING_DEPTH = 8
"""Weights are looked for within at most this many nested wrappers."""


@dataclass(frozen=True, eq=False)
class Weights:
    """The tensors of a file by name, where they came from, and what the file says about preprocessing."""

    state: Mapping[str, Tensor]
    path: Path
    preprocessing: Preprocessing = field(default_factory=Preprocessing)


def read_weights(path: str | os.PathLike[str]) -> Weights:
    """The weights in a safetensors or .pt/.pth file, on the CPU, in the file's own precision.

    Wrappers (`state_dict`, `model`, ...) are opened, the prefixes of DistributedDataParallel (`module.`) and
    `torch.compile` (`_orig_mod.`) taken off. Raises BadInput where there is no such file or where it holds no
    weights.
    """
    path = Path(path).expanduser()
    head = _head(path)
    # safetensors: the length of the header in 8 bytes, then the header in JSON.
    if head[8:9] == b"{":
        state, metadata = _read_safetensors(path)
        return Weights(bare_state(_whole(state, path)), path, _understood(metadata, path))
    # torch.save writes a zip archive, and older versions a bare pickle or a tar.
    if head[:2] == b"PK" or head[:1] == b"\x80" or _is_old_tar(path):
        return Weights(bare_state(_whole(_unwrapped(_read_pickle(path), path), path)), path)
    raise BadInput(
        f"{path} is not a weights file: {_nature(head)}. Expected safetensors, or .pt/.pth as torch.save writes them."
    )


def fit_weights(module: nn.Module, weights: Weights, *, name: str = "the network", hint: str = "") -> None:
    """Copy `weights` into `module`, strictly, in the module's own precision; nothing is copied where anything does
    not fit.

    Numbers may be of another precision, and of no other kind: whole numbers, which may be of a quantized network, do
    not become fractions. The counters `num_batches_tracked`, which older files lack and evaluation never reads, may be
    missing. Raises BadInput, naming the missing, the unexpected and the mis-shaped, and tensors that hold NaN or
    infinity.
    """
    own = module.state_dict()
    # The module itself may be wrapped, as by torch.compile: names are compared without prefixes on both sides.
    names = dict(zip(_bare_names(own), own, strict=True))
    given = weights.state
    missing = [n for n in names if n not in given and not n.endswith("num_batches_tracked")]
    unexpected = [n for n in given if n not in names]
    shapes = {n: (tuple(given[n].shape), tuple(own[names[n]].shape)) for n in names if n in given}
    misshaped = [f"{n} {_times(came)} instead of {_times(want)}" for n, (came, want) in shapes.items() if came != want]
    kinds = {n: (given[n].dtype, own[names[n]].dtype) for n in names if n in given}
    otherwise = [
        f"{n} {came} instead of {want}"
        for n, (came, want) in kinds.items()
        if not _becomes(came, want) and not n.endswith("num_batches_tracked")
    ]
    faults = {"missing": missing, "unexpected": unexpected, "of another shape": misshaped, "of another kind": otherwise}
    if any(faults.values()):
        story = "; ".join(f"{len(keys)} {what}: {few(keys)}" for what, keys in faults.items() if keys)
        counts = f"{len(names)} tensors expected, {len(given)} came"
        raise BadInput(f"{weights.path.name} does not fit {name} ({counts}): {story}. {hint}".strip())
    broken = [n for n, tensor in given.items() if not _is_finite(tensor)]
    if broken:
        raise BadInput(
            f"{weights.path.name} holds NaN or infinity in {len(broken)} of {len(given)} tensors: {few(broken)}."
        )
    # strict=False for the counters alone, which may be missing; all else was compared above.
    module.load_state_dict({names[n]: tensor for n, tensor in given.items()}, strict=False)


def write_weights(
    path: str | os.PathLike[str], state: Mapping[str, Tensor], about: Preprocessing, *, half: bool = False
) -> Path:
    """Write weights as safetensors, whole or not at all. Equal weights give equal bytes.

    With `half`, kernels and matrices are stored in half precision; vectors (batch normalization, biases), which are
    few and span more magnitudes, and whatever half precision cannot hold, stay as they are. Raises Failure where the
    folder is not there, or the disk refuses.
    """
    path = Path(path).expanduser()
    if not path.parent.is_dir():  # a folder that nobody made is rather a mistyped one
        raise Failure(f"the weights could not be written to {path}: there is no folder {path.parent}.")
    tensors = {name: _stored(tensor, half=half) for name, tensor in state.items()}
    try:
        with whole_file(path) as temporary:
            safetensors.torch.save_file(tensors, temporary, metadata={"format": "pt"} | about.to_metadata())
            _sort_metadata(temporary)
    except (OSError, safetensors.SafetensorError) as error:
        raise Failure(f"the weights could not be written to {path}: {error}.") from error
    return path


def bare_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors without the prefixes that wrappers put before their names."""
    if "n_averaged" in state and all(name.startswith("module.") for name in state if name != "n_averaged"):
        state = {name: tensor for name, tensor in state.items() if name != "n_averaged"}  # torch.optim.swa_utils
    return dict(zip(_bare_names(state), state.values(), strict=True))


def _bare_names(names: Iterable[str]) -> list[str]:
    names = [name.replace("_orig_mod.", "") for name in names]
    # Wrappers may be wrapped; a single name without the prefix shows that it belongs to the network.
    while names and all(name.startswith("module.") for name in names):
        names = [name.removeprefix("module.") for name in names]
    return names


def _head(path: Path) -> bytes:
    """The first bytes of the file. Raises BadInput where there is none to read."""
    if path.is_dir():
        raise BadInput(f"{path} is a folder; give the weights file inside it.")
    try:
        with path.open("rb") as file:
            return file.read(512)
    except FileNotFoundError:
        raise BadInput(f"there is no weights file {path}.{_neighbors(path)}") from None
    except OSError as error:
        raise BadInput(f"the weights file {path} cannot be read: {error.strerror}.") from error


def _whole(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The same tensors. Raises BadInput where some are not numbers in memory, one for each place."""
    odd = {name: _oddity(tensor) for name, tensor in state.items() if _oddity(tensor)}
    if odd:
        listed = few(f"{name} ({what})" for name, what in odd.items())
        raise BadInput(
            f"{path.name} holds {len(odd)} of {len(state)} tensors that are not plain numbers: {listed}. "
            "Save the state_dict() of the network with its numbers: dense, and on a device."
        )
    return state


def _oddity(tensor: Tensor) -> str:
    """What a tensor is that is not plain numbers; "" for one that is."""
    if tensor.is_meta:
        return "on the meta device, without numbers"
    if tensor.is_quantized:
        return "quantized"
    if tensor.is_nested:
        return "nested"
    return "" if tensor.layout is torch.strided else "sparse"


def _becomes(came: torch.dtype, want: torch.dtype) -> bool:
    """Whether numbers of one type mean the same as another: fractions of any precision, or whole numbers."""
    return (came.is_complex, came.is_floating_point) == (want.is_complex, want.is_floating_point)


def _is_finite(tensor: Tensor) -> bool:
    if not tensor.is_floating_point():
        return True
    wide = tensor if tensor.dtype.itemsize > 1 else tensor.float()  # of 8 bits, few operations are there
    return bool(wide.isfinite().all())


def _neighbors(path: Path) -> str:
    if not path.parent.is_dir():
        return f" There is no folder {path.parent} either."
    files = [other.name for other in path.parent.iterdir() if other.suffix in WEIGHT_SUFFIXES]
    close = near(path.name, files) or sorted(files)[:3]
    return f" Close: {', '.join(repr(name) for name in close)}." if close else ""


def _nature(head: bytes) -> str:
    if not head:
        return "it is empty"
    if head.startswith(b"version https://git-lfs"):
        return "it is the pointer that git-lfs left in place of the file (`git lfs pull` fetches it)"
    if head.lstrip()[:1] == b"<":
        return "it is a web page, perhaps of a download that failed"
    return f"it begins with {head[:8]!r}"


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safetensors.safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise BadInput(f"{path} begins like safetensors but cannot be read ({error}); is it complete?") from error


def _understood(metadata: Mapping[str, str], path: Path) -> Preprocessing:
    try:
        return Preprocessing.from_metadata(metadata)
    except BadInput as error:
        raise BadInput(f"{path.name}: {error}") from error


def _is_old_tar(path: Path) -> bool:
    """Whether the file is a tar as torch 0.1 wrote it; `torch.load` still knows them."""
    with path.open("rb") as file:
        # The mark of a tar stands at byte 257.
        return file.read(262)[257:] == b"ustar"


def _read_pickle(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            # Both are zip archives; only TorchScript's holds constants.
            if any(name.endswith("constants.pkl") for name in archive.namelist()):
                raise BadInput(
                    f"{path} is a TorchScript archive, a program and not only weights. Save its state_dict() instead."
                )
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a broken pickle raises anything
        foreign = isinstance(error, pickle.UnpicklingError)
        if foreign and re.search(
            r"GLOBAL|operand 149", str(error)
        ):  # 149: pickles of a protocol that torch never writes
            raise BadInput(
                f"{path} is a pickle that holds more than weights, and is not opened, since that could run any code. "
                "If you trust it, open it yourself and save its state_dict()."
            ) from error
        cause = "" if foreign else f" ({next(iter(str(error).splitlines()), type(error).__name__).rstrip('.')})"
        raise BadInput(f"{path} is not a weights file, or not a complete one{cause}.") from error


def _unwrapped(found: Any, path: Path, depth: int = 0) -> dict[str, Tensor]:
    """The weights in what `torch.load` gave: names with tensors, or wrappers around them, up to NESTING_DEPTH."""
    if depth > NESTING_DEPTH:
        raise BadInput(
            f"{path} holds weights, if any, within more than {NESTING_DEPTH} wrappers, or a wrapper within itself."
        )
    if not isinstance(found, Mapping):
        raise BadInput(
            f"{path} holds a {type(found).__name__}, not weights: expected names with tensors, as state_dict() gives."
        )
    tensors = {name: value for name, value in found.items() if isinstance(name, str) and isinstance(value, Tensor)}
    if len(tensors) == len(found) > 0:
        return tensors
    for wrapper in WRAPPERS:
        if isinstance(found.get(wrapper), Mapping):
            return _unwrapped(found[wrapper], path, depth + 1)
    if not tensors:
        raise BadInput(f"{path} holds no weights, only {few(repr(key) for key in found) or 'nothing'}.")
    return tensors


def _stored(tensor: Tensor, *, half: bool) -> Tensor:
    # A clone: safetensors refuses tensors that share their memory.
    tensor = tensor.detach().cpu().contiguous().clone()
    if half and tensor.dtype == torch.float32 and tensor.ndim >= 2 and tensor.half().isfinite().all():
        return tensor.half()
    return tensor


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "(one number)"


def _sort_metadata(path: Path) -> None:
    """Put the metadata of a safetensors file, which the library writes in an order of chance, in the order of names."""
    with path.open("rb+") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        # The same length as before, filled with spaces, since the numbers of the tensors follow at fixed places.
        ordered = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode().ljust(size)
        if len(ordered) != size:
            raise OSError(f"its header has {size} bytes and, in order, {len(ordered)}")
        file.seek(8)
        file.write(ordered)
