"""Replay: what a network computes behind a site, again and again, with the responses at the site altered.

The problem: a perturbation alters the responses at one site, and asks what becomes of the logits, for tens of
conditions per batch. A full forward pass for each also computes, again and again, what lies before the site.

The idea: a program (anatomy/program.py) that begins at the site. All that does not depend on the site is a constant in
it; each condition runs the operations behind the site alone:

    conv1 - relu - maxpool - layer1 - ... - fc          recorded once per batch, from maxpool on
                      |
             altered responses - layer1 - ... - fc      run once per condition

These are torch's own operations on the same layouts of memory, so that a replay gives the very bits of a full forward
pass. With a path only some of those who read the site get the altered responses:

    maxpool --+-- conv - bn - relu - conv - bn --+-- add      "branch": the convolution reads altered responses
              +----------------------------------+            "skip": the addition does

A network that decides by values, or does something outside torch, cannot be replayed (`Replay.obstacle`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from unitscope.anatomy.program import OVERWRITTEN, Operation, Program, Value, compute, copy_of, values_in
from unitscope.anatomy.trace import record, unrecorded_copy
from unitscope.errors import BadInput
from unitscope.networks import logits_of
from unitscope.recording.electrode import Alter, alter_responses, as_responses

if TYPE_CHECKING:
    from unitscope.networks import Network
    from unitscope.vocabulary import Site

Path = Literal["both", "branch", "skip"]
PATHS = ("both", "branch", "skip")
"""Who reads the altered responses: all, all but additions, or additions only."""


@dataclass(frozen=True, eq=False)
class Replay:
    """A batch that was shown to a network: its logits, and the program behind `site`."""

    site: Site
    program: Program
    logits: Float[Tensor, "stimulus logit"]

    @property
    def original(self) -> Tensor:
        """The network's own tensor at the site. Not to be changed."""
        assert self.program.origin_tensor is not None, "the program begins at a site"
        return self.program.origin_tensor

    @property
    def responses(self) -> Float[Tensor, "stimulus unit row col"]:
        """The responses at the site. Not to be changed."""
        return as_responses(self.original, self.site)

    @property
    def reaches_logits(self) -> bool:
        """Whether the logits depend on the site."""
        return bool(values_in(self.program.output))

    @property
    def obstacle(self) -> str:
        """Why the network cannot be replayed: the operation by which it looks at values; "" where it does not."""
        return next((one.name for one in self.program.operations if one.outcome_depends_on_values), "")

    @cached_property
    def has_skip(self) -> bool:
        """Whether an addition reads the site's responses themselves, and something else reads them, too."""
        operations = self.program.operations
        if any(self._lies_at_site(value) for operation in operations for value in operation.written):
            return False  # who reads the site behind that reads something else
        additions = [operation.name == "add" for operation in operations if self._reads_site(operation)]
        return any(additions) and not all(additions)

    @torch.no_grad()
    def run(self, alter: Alter, *, path: Path = "both") -> Float[Tensor, "stimulus logit"]:
        """The logits with the responses altered.

        Args:
            alter: alters responses [stimulus unit row col] in place.
            path: who reads them; the others read the original ones.

        Raises:
            BadInput: the site has no skip, or the network looks at values behind it.
        """
        if self.obstacle:
            raise BadInput(f"behind {self.site.name} the network looks at values ({self.obstacle}).")
        if path != "both" and not self.has_skip:
            raise no_skip(self.site, path)
        altered = copy_of(self.original)
        alter_responses(altered, self.site, alter)
        if not self.reaches_logits:
            return self.logits
        original = {self.program.origin: self.original}

        def evaluate(operation: Operation, facts: Mapping[Value, Tensor]) -> list[Tensor]:
            if path != "both" and self._passes_site_on(operation):
                # A view of the responses. Operations that read the original responses need the same view of the
                # original.
                original.update(zip(operation.results, compute(operation, {**facts, **original}), strict=True))
            # Operations off the path read the original: for "skip" all but additions, for "branch" additions.
            elif path != "both" and self._reads_site(operation) and (operation.name == "add") != (path == "skip"):
                return compute(operation, {**facts, **original})
            return compute(operation, facts)

        output = self.program.output
        return self.program.run({self.program.origin: altered}, evaluate, keep={output})[output]

    def _lies_at_site(self, value: Value) -> bool:
        return value.memory == self.program.origin.memory

    def _passes_site_on(self, operation: Operation) -> bool:
        """Whether the result is a view of the site's responses, read by others in their place."""
        return (operation.is_view or operation.name == OVERWRITTEN) and any(map(self._lies_at_site, operation.reads))

    def _reads_site(self, operation: Operation) -> bool:
        """Whether an operation makes something new of the site's responses, or of a view of them."""
        reads = bool(operation.results) and any(map(self._lies_at_site, operation.reads))
        return reads and not self._passes_site_on(operation)


def record_replay(network: Network, x: Float[Tensor, "stimulus color height width"], site: Site) -> Replay:
    """Show prepared pictures to the network once, and record what follows a site.

    Raises BadInput where the network does not pass the site.
    """
    shown: list[Tensor] = []

    def show(module: nn.Module, pictures: Tensor) -> Any:
        logits = logits_of(module(pictures), network.name)
        shown.append(unrecorded_copy(logits))
        return logits

    program = record(network.module, x, start=site.name, show=show)
    return Replay(site, program, shown[0])


def no_skip(site: Site, path: str) -> BadInput:
    return BadInput(
        f"{site.name} has no skip: its responses would have to be read by an addition and by something else, too. "
        f"The path {path!r} is for such sites, as where a residual block begins; every site has the path 'both'."
    )
