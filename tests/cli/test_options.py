"""What is typed of a network: weights drawn from a seed."""

from __future__ import annotations

import pytest

from unitscope.cli.options import ModelOptions, open_network, parse_seed
from unitscope.errors import BadInput


def test_random_weights_are_drawn_from_their_seed() -> None:
    def drawn(weights: str | None) -> str:
        return open_network("resnet18", ModelOptions(weights=weights, width=4, classes="2", size="32")).fingerprint

    one, again, other, without = (drawn(weights) for weights in ("random:1", "random:1", "random:2", None))
    assert one == again
    assert len({one, other, without}) == 3
    network = open_network("resnet18", ModelOptions(weights="random:1", width=4, classes="2", size="32"))
    assert network.weights == "random (seed 1)"


def test_other_weights_have_no_seed_and_a_seed_is_a_number() -> None:
    assert parse_seed(None) is parse_seed("w.safetensors") is None
    assert parse_seed("random:07") == 7
    for text in ("random:", "random:x", "random:-1"):
        with pytest.raises(BadInput, match="expected a seed behind random:, such as random:0"):
            parse_seed(text)
