"""A tape of what a network computes behind a site, so that it can be played again with the responses there altered.

What comes before the site, and all that does not depend on it, is computed once, when the tape is made. Played again
are torch's own operations on the same layouts of memory, so that a tape gives the very bits of a full forward pass.
In-place operations and views are kept apart by the memory that they share, as torch does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from unitscope.anatomy.listening import listening
from unitscope.anatomy.memories import Memories
from unitscope.anatomy.watching import named, plain_name, written
from unitscope.errors import BadInput
from unitscope.networks import logits_of
from unitscope.recording.electrode import Alter, alter_responses, as_responses

if TYPE_CHECKING:
    from unitscope.networks import Network
    from unitscope.vocabulary import Site

Path = Literal["both", "branch", "skip"]
PATHS = ("both", "branch", "skip")
"""Who reads the altered responses: all, all but additions, or additions only."""

LOOKING = frozenset(["_local_scalar_dense", "is_nonzero", "equal", "nonzero", "unique2", "_unique2", "masked_select"])
"""Operations by which a network decides, or shapes, something according to values."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor that depends on the site lies: in which memory, and how."""

    memory: int
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def on(self, memory: Tensor) -> Tensor:
        """The tensor on a memory, given as one flat row."""
        return torch.as_strided(memory, self.size, self.stride, self.offset)


@dataclass(slots=True)
class Constant:
    """A tensor that does not depend on the site, as it was when an operation read it."""

    tensor: Tensor


@dataclass(frozen=True, slots=True)
class Step:
    """One operation behind the site: its arguments as Places and Constants, and the Places of its results."""

    function: Any
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    results: tuple[Place | None, ...]
    reads_site: bool
    adds: bool


@dataclass
class Tape:
    """What was recorded behind `site`: the batch's `logits` and responses, and the steps between them."""

    site: Site
    responses: Place
    memories: dict[int, Tensor] = field(default_factory=dict)
    """What is overwritten or altered when the tape is played, as it was: flat rows."""
    steps: list[Step] = field(default_factory=list)
    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    end: Place | None = None
    """Where the logits lie; None where they do not depend on the site."""
    obstacle: str = ""
    """Why the tape cannot be played: the operation by which the network looks at values."""
    overwritten: bool = False
    """Whether an operation writes over the site's own responses."""
    released: dict[int, list[int]] = field(default_factory=dict)
    """By step: the memories that no later one needs."""

    @property
    def heard(self) -> Float[Tensor, "stimulus unit row col"]:
        """The responses at the site. Not to be changed."""
        return as_responses(self.responses.on(self.memories[self.responses.memory]), self.site)

    @property
    def has_skip(self) -> bool:
        """Whether an addition reads the site's responses themselves, and something else reads them, too."""
        readers = [step for step in self.steps if step.reads_site]
        return not self.overwritten and any(s.adds for s in readers) and any(not s.adds for s in readers)

    @torch.no_grad()
    def play(self, alter: Alter, *, path: Path = "both") -> Float[Tensor, "stimulus logit"]:
        """The logits with the responses altered. With `path`, only for additions ("skip") or for all others.

        Raises BadInput where the site has no skip, or where the network looks at values behind it.
        """
        if self.obstacle:
            raise BadInput(f"behind {self.site.name} the network looks at values ({self.obstacle}).")
        if path != "both" and not self.has_skip:
            raise no_skip(self.site, path)
        site = self.responses.memory
        original = self.memories[site]
        memories = {site: original.clone()}
        alter_responses(self.responses.on(memories[site]), self.site, alter)
        for number, step in enumerate(self.steps):
            other = path != "both" and step.reads_site and step.adds != (path == "skip")
            self._repeat(step, memories | {site: original} if other else memories, memories)
            for memory in self.released.get(number, ()):
                memories.pop(memory, None)
        return self.logits if self.end is None else self.end.on(memories[self.end.memory])

    def _repeat(self, step: Step, read: dict[int, Tensor], memories: dict[int, Tensor]) -> None:
        def present(argument: Any) -> Any:
            if isinstance(argument, Constant):
                return argument.tensor
            if not isinstance(argument, Place):
                return argument
            if argument.memory not in read:
                read[argument.memory] = memories[argument.memory] = self.memories[argument.memory].clone()
            return argument.on(read[argument.memory])

        arguments, options = tree_map(present, (step.arguments, step.options), is_leaf=is_slot)
        result = step.function(*arguments, **options)
        for place, tensor in zip(step.results, tensors_of(result), strict=True):
            if place is not None:
                memories[place.memory] = row_of(tensor)


def record_tape(network: Network, x: Tensor, site: Site) -> Tape:
    """Show prepared pictures to the network once, and tape what follows a site.

    Raises BadInput where the network does not pass the site.
    """
    recorder = Recorder(site)
    with torch.no_grad(), listening(network.module, recorder.hear), recorder:
        output = network.module(x)
    if recorder.tape is None:
        raise BadInput(f"{network.name} did not pass {site.name} with these pictures.")
    tape = recorder.tape
    logits = logits_of(output, network.name)
    tape.logits, tape.end = logits, recorder.place(logits)
    if tape.end is not None:
        tape.logits = logits.clone()
    tape.released = released(tape)
    return tape


def released(tape: Tape) -> dict[int, list[int]]:
    """For each step the memories that are needed there for the last time."""
    last: dict[int, int] = {}
    for number, step in enumerate(tape.steps):
        slots = tree_flatten((step.arguments, step.options, step.results), is_leaf=is_slot)[0]
        last |= {slot.memory: number for slot in slots if isinstance(slot, Place)}
    last.pop(tape.end.memory if tape.end else -1, None)
    found: dict[int, list[int]] = {}
    for memory, number in last.items():
        found.setdefault(number, []).append(memory)
    return found


class Recorder(TorchDispatchMode):
    """Notes every operation that depends on a site, from the moment at which the site's responses are there."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site
        self.tape: Tape | None = None
        self.number = Memories().number
        self.depending: set[int] = set()
        self.constants: dict[int, list[Constant]] = {}

    def hear(self, name: str, value: Tensor) -> None:
        if name == self.site.name and self.tape is None:
            memory = self.number(value)
            self.depending.add(memory)
            place = place_of(value, memory)
            self.tape = Tape(self.site, place, {memory: plain(lambda: row_of(value).clone())})

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.tape is None:
            return func(*args, **kwargs)
        targets = written(func, named(func, args, kwargs))
        tensors = list(tensors_of((args, kwargs)))
        depends = any(self.number(tensor) in self.depending for tensor in tensors)
        for target in targets:
            self._before_writing(target, depends)
        if not depends:
            return func(*args, **kwargs)
        name = plain_name(func)
        if name in LOOKING:
            self.tape.obstacle = name
        slots = tree_map(self._slot, (args, kwargs))
        before = {self.number(tensor) for tensor in tensors}
        result = func(*args, **kwargs)
        places = tuple(self._result(tensor, before) for tensor in tensors_of(result))
        site = self.tape.responses.memory
        reads = any(isinstance(slot, Place) and slot.memory == site for slot in tree_flatten(slots, is_leaf=is_slot)[0])
        looks_only = not targets and all(place is None for place in places)  # a view
        self.tape.steps.append(Step(func, slots[0], slots[1], places, reads and not looks_only, name == "add"))
        return result

    def _before_writing(self, target: Tensor, depends: bool) -> None:
        """Keep what will be overwritten, where a step has read it or will."""
        assert self.tape is not None
        memory = self.number(target)
        for constant in self.constants.pop(memory, []):
            constant.tensor = plain(constant.tensor.clone)
        if depends and memory not in self.depending:
            self.tape.memories[memory] = plain(lambda: row_of(target).clone())
            self.depending.add(memory)
        self.tape.overwritten |= memory == self.tape.responses.memory

    def _slot(self, argument: Any) -> Any:
        if not isinstance(argument, Tensor):
            return argument
        memory = self.number(argument)
        if memory in self.depending:
            return place_of(argument, memory)
        constant = Constant(argument)
        self.constants.setdefault(memory, []).append(constant)
        return constant

    def _result(self, tensor: Tensor, before: set[int]) -> Place | None:
        """The place of a result in new memory; None for a view of an argument, and for the argument itself."""
        memory = self.number(tensor)
        if memory in before:
            return None
        self.depending.add(memory)
        return place_of(tensor, memory)

    def place(self, tensor: Tensor) -> Place | None:
        memory = self.number(tensor)
        return place_of(tensor, memory) if memory in self.depending else None


def place_of(tensor: Tensor, memory: int) -> Place:
    return Place(memory, int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride())


def row_of(tensor: Tensor) -> Tensor:
    """All of a tensor's memory, as one flat row of its own type."""
    storage = tensor.untyped_storage()
    count = storage.nbytes() // tensor.element_size()
    return torch.empty(0, dtype=tensor.dtype, device=tensor.device).set_(storage, 0, (count,), (1,))


def plain(deed: Callable[[], Tensor]) -> Tensor:
    """Do something that the recorder does not note."""
    with torch.utils._python_dispatch._disable_current_modes():
        return deed()


def tensors_of(values: Any) -> Iterator[Tensor]:
    return (value for value in tree_flatten(values)[0] if isinstance(value, Tensor))


def is_slot(value: Any) -> bool:
    return isinstance(value, Place | Constant)


def no_skip(site: Site, path: str) -> BadInput:
    return BadInput(
        f"{site.name} has no skip: its responses would have to be read by an addition and by something else, too. "
        f"The path {path!r} is for such sites, as where a residual block begins; every site has the path 'both'."
    )
