"""The plan of a survey: what is going to be shown and read, fixed before the first stimulus."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from unitscope.anatomy.sites import sites as sites_of
from unitscope.errors import BadInput, unknown_name
from unitscope.recording.batches import first_pictures
from unitscope.recording.calibration import calibrate
from unitscope.recording.electrode import choose
from unitscope.recording.forward_pass import PRECISIONS, ReadingMode
from unitscope.recording.manifest import describe, kernel_sites
from unitscope.recording.site_state import BLOCK, MEANS, Settings
from unitscope.stimuli.images import Images
from unitscope.stimuli.presentation import Presentation
from unitscope.vocabulary import Size

if TYPE_CHECKING:
    from unitscope.networks import Network
    from unitscope.vocabulary import Site

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What is going to be shown and read: fixed before the first stimulus, and the same for all shards."""

    sites: dict[str, Site]
    settings: Settings
    presentation: Presentation
    batch: int
    first: int
    last: int
    facts: dict[str, Any]
    precision: str = "float32"
    mode: ReadingMode = dataclasses.field(default_factory=ReadingMode)

    @classmethod
    def of(
        cls,
        network: Network,
        images: Images,
        *,
        sites: str | Iterable[str] | None,
        resize: int | Size | None,
        batch: int,
        top: int,
        per_image: int,
        means: Iterable[str],
        responses: bool,
        shard: str | None,
        precision: str = "float32",
        seed: int | None = None,
    ) -> Plan:
        if network.inputs not in (1, 3):
            raise BadInput(
                f"photographs have 3 colors, or 1 when they are made gray; {network.name} takes {network.inputs} input "
                "channels."
            )
        if top < 1 or not 1 <= per_image <= top or batch < 1 or BLOCK % batch:
            raise BadInput(
                f"top must be at least 1 (it was {top}), per_image 1 to top (it was {per_image}) "
                f"and batch a divisor of {BLOCK} (it was {batch})."
            )
        if precision not in PRECISIONS:
            raise unknown_name("precision", precision, PRECISIONS, advice=f"There are {', '.join(PRECISIONS)}.")
        everything = sites_of(network)
        chosen = choose(everything, [sites] if isinstance(sites, str) else sites)
        if not chosen:
            cut = [f"{site.name}: {site.unreadable}" for site in everything.values() if site.unreadable]
            why = f" that can be read ({cut[0]})" if cut else ""
            raise BadInput(f"{network.name} has no pre-activation and no max-pooling{why}; name the sites to survey.")
        presentation = Presentation(network.size, resize)
        part, of = parse_shard(shard)
        blocks = -(-len(images) // BLOCK)
        settings = Settings(top, per_image, images.labels, network.inputs, order_means(means), responses)
        facts = describe(network, images, chosen, presentation, settings, batch=batch)
        facts["kernels"] = kernel_sites(network, everything, chosen)
        # Kept only where it differs from the default, as `seed` is: older records, which lack both, still compare as
        # equal.
        if precision != "float32":
            facts["settings"]["precision"] = precision
        if seed is not None:
            facts["seed"] = facts["settings"]["seed"] = seed
        if shard:
            facts["shard"] = [part, of]
        # For example 10 blocks in 3 parts: 0 to 3, 3 to 6, 6 to 10.
        first, last = ((part - before) * blocks // of for before in (1, 0))
        return cls(chosen, settings, presentation, batch, first, last, facts, precision, ReadingMode(seed=seed))


def calibrate_plan(plan: Plan, network: Network, images: Images) -> Plan:
    """The plan with the mode of reading that suits the network, found on its first readable images."""
    found = calibrate(
        network, plan.sites, first_pictures(images, plan.presentation, inputs=network.inputs),
        precision=plan.precision, seed=plan.mode.seed,
    )  # fmt: skip
    plan.facts["calibration"] = found.facts
    if not found.mode.fast and found.steadiness is not None:
        log.info("%s is read in the plain way: %s.", network.name, found.reason)
    return dataclasses.replace(plan, mode=found.mode)


def order_means(means: Iterable[str]) -> tuple[str, ...]:
    """The names of means in one order. Raises UnknownName."""
    means = [means] if isinstance(means, str) else list(means)
    for name in means:
        if name not in MEANS:
            raise unknown_name("mean", name, MEANS, advice=f"There are {', '.join(MEANS)}, beside the center's.")
    return tuple(name for name in MEANS if name in means)


def parse_shard(text: str | None) -> tuple[int, int]:
    """The part and the number of parts behind "2/8". Raises BadInput."""
    if text is None:
        return 1, 1
    match = re.fullmatch(r"\s*(\d+)\s*/\s*(\d+)\s*", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise BadInput(f"{text!r} is no shard; write it as PART/PARTS, from 1/8 to 8/8.")
    return int(match[1]), int(match[2])
