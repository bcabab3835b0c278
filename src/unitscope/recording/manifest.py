"""Before a survey begins: what its record.json will say, what folder it is written to, and what is refused."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from unitscope.anatomy.computation import identity_of
from unitscope.anatomy.operations import kind
from unitscope.anatomy.site_graph import graph_of, kernels_at
from unitscope.durable import lock_folder, make_folder, sync
from unitscope.errors import Failure, few
from unitscope.facts import FORMAT, read_facts, write_facts
from unitscope.network_facts import difference
from unitscope.record import refuse_torn
from unitscope.recording.site_state import BLOCK, Settings
from unitscope.stimuli.images import Images
from unitscope.stimuli.presentation import Presentation

if TYPE_CHECKING:
    from unitscope.networks import Network
    from unitscope.vocabulary import Site


def describe(
    network: Network,
    images: Images,
    sites: dict[str, Site],
    presentation: Presentation,
    settings: Settings,
    *,
    batch: int,
) -> dict[str, Any]:
    """What record.json says: which network, which pictures, which sites."""
    first = 0
    listed = []
    for site in sites.values():
        listed.append(site_facts(site, first))
        first += site.channels
    return {
        "format": FORMAT,
        "network": {
            "name": network.name,
            **identity_of(network),
            "weights": network.weights,
            "size": list(network.size),
            "mean": list(network.mean),
            "std": list(network.std),
            "order": network.order,
            "inputs": network.inputs,
            "classes": list(network.classes) if network.classes else None,
        },
        "stimuli": {
            "fingerprint": images.fingerprint,
            "source": images.source,
            "count": len(images),
            "unreadable": 0,
            "note": images.note,
            "size": list(presentation.size),
            "resize": resize if isinstance(resize := presentation.resize, int) else list(resize or ()),
        },
        "sites": listed,
        "settings": {
            "top": settings.top,
            "per_image": settings.per_image,
            "labels": list(settings.labels),
            "means": list(settings.means),
            **({"responses": True} if settings.responses else {}),
            "batch": batch,
            "block": BLOCK,
        },
        "seed": 0,
        "versions": {name: version(name) for name in ("unitscope", "torch", "numpy", "pillow")}
        | {"python": platform.python_version()},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "complete": False,
    }


def site_facts(site: Site, first: int) -> dict[str, Any]:
    return {
        "name": site.name,
        "channels": site.channels,
        "lattice": list(site.lattice),
        "picture": list(site.picture),
        "operation": site.operation,
        "module": site.module,
        "preactivation": site.preactivation,
        "first_unit": first,
        "field": asdict(site.field()),
    }


def identity(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts that distinguish one survey of a network from another, by names that a message can use."""
    return {
        "images": facts["stimuli"]["fingerprint"],
        "size": [facts["stimuli"]["size"], facts["stimuli"]["resize"]],
        "sites": [site["name"] for site in facts["sites"]],
        "settings": facts["settings"],
    }


def is_finished(folder: Path, facts: dict[str, Any]) -> bool:
    """Whether the folder holds the complete record of this very survey. Raises Failure where it is of another."""
    there = read_facts(folder) if folder.exists() else None
    if there is None:
        return False
    refuse_foreign(folder, there, facts)
    if there.get("shard") != facts.get("shard"):
        what = "another shard" if "shard" in there else "the whole"
        raise Failure(f"{folder} holds {what} of this survey; choose another folder.")
    refuse_torn(folder, there)
    return bool(there["complete"]) or (folder / "part.safetensors").exists()


def refuse_foreign(folder: Path, there: dict[str, Any], facts: dict[str, Any]) -> None:
    try:
        old, new = identity(there), identity(facts)
        other = difference(there["network"], facts["network"])
    except (KeyError, TypeError):
        raise Failure(f"{folder} holds something else than a survey's record; choose another folder.") from None
    different = [*([other] if other else []), *(name for name in new if old[name] != new[name])]
    if different:
        raise Failure(
            f"{folder} holds a survey of {there['network']['name']} over {there['stimuli']['source']}, "
            f"made with other {few(different, most=5)}; "
            "it cannot be continued with these. Choose another folder, or delete it."
        )


@contextmanager
def open_parts(folder: Path, facts: dict[str, Any]) -> Iterator[Path]:
    """The folder for checkpoints, written to before the long pass begins, and locked against a second survey. It is
    deleted when the survey has been completed.
    """
    try:
        make_folder(folder / "parts")
    except OSError as error:
        raise Failure(
            f"a record cannot be written to {folder}: {error.strerror or error}. Choose another folder."
        ) from error
    with lock_folder(folder, wait=0, what="survey"):
        parts = folder / "parts"
        begun = read_facts(parts)
        if begun is not None:
            refuse_foreign(folder, begun, facts)
        try:
            # Again, under the lock: another survey may have removed the folder when it was complete.
            make_folder(parts)
            write_facts(parts, facts)
            yield parts
        except OSError as error:
            raise Failure(
                f"{folder} cannot be written any more: {error.strerror or error}. What was put aside is kept; "
                "when there is room again, the same survey resumes."
            ) from error
        shutil.rmtree(parts)
        sync(folder)


def kernel_sites(network: Network, everything: Mapping[str, Site], chosen: Mapping[str, Site]) -> dict[str, Any] | None:
    """Where the first convolution is, and which surveyed sites share its channels (it, and what follows it channel by
    channel).
    """
    first = next((site for site in everything.values() if site.operation == "conv2d"), None)
    if first is None or first_convolution(network, first.name) is None:
        return None
    sharing = {first.name}
    for name, each in graph_of(network).items():
        alone = len(each.reads) == 1 and each.reads[0] in sharing and kind(each.operation).per_channel
        if alone and name in everything and everything[name].channels == first.channels:
            sharing.add(name)
    return {"site": first.name, "sites": [name for name in chosen if name in sharing]}


def first_convolution(network: Network, name: str) -> torch.Tensor | None:
    """The kernels of the convolution at a site, where they may be shown in the channels of the picture."""
    weight = kernels_at(network, name)
    return weight if weight is not None and weight.ndim == 4 and weight.shape[1] == network.inputs else None


def first_kernels(network: Network, kernels: dict[str, Any] | None) -> np.ndarray | None:
    weight = first_convolution(network, kernels["site"]) if kernels else None
    return None if weight is None else weight.cpu().float().numpy()
