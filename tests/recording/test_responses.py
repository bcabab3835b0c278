"""Statistics of responses against brute force, however the session was cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles.everything import ordered_extremes
from unitscope.recording.responses import Extremes, Heard, Ladder, Moments, first_position

POLES = {"preferred": 1, "antipreferred": -1}


def listen_in_parts(responses: torch.Tensor, cuts: list[int], *, k: int) -> dict[int, Extremes]:
    """Extremes of a session that was heard in the blocks between `cuts`, each in batches of two."""
    units = responses.shape[1]
    kept = {sign: Extremes.empty(units, k=k, sign=sign) for sign in (1, -1)}
    for start, stop in zip([0, *cuts], [*cuts, len(responses)], strict=True):
        heard = Heard(k=k, center=(0, 0), floor={sign: torch.from_numpy(sign * e.value) for sign, e in kept.items()})
        for i in range(start, stop, 2):
            numbers = torch.arange(i, min(i + 2, stop))
            heard.hear(responses[numbers], numbers, torch.ones(len(numbers), dtype=torch.bool))
        kept = {sign: extremes.merge(*heard.flat(sign)) for sign, extremes in kept.items()}
    return kept


def as_lists(extremes: Extremes) -> list[list[tuple[float, int, int, int]]]:
    rows = zip(extremes.value, extremes.image, extremes.row, extremes.col, strict=True)
    return [[entry for entry in zip(*map(list, row), strict=True) if entry[1] >= 0] for row in rows]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**16),
    stimuli=st.integers(1, 12),
    k=st.integers(1, 6),
    cuts=st.sets(st.integers(1, 11), max_size=4),
    levels=st.integers(1, 4),
)
def test_extremes_equal_a_full_sort_with_ties_however_the_session_is_cut(seed, stimuli, k, cuts, levels):
    rng = np.random.default_rng(seed)
    responses = torch.from_numpy(rng.integers(-levels, levels + 1, (stimuli, 3, 2, 3)).astype(np.float32))
    kept = listen_in_parts(responses, sorted(cut for cut in cuts if cut < stimuli), k=k)
    for pole, sign in POLES.items():
        assert as_lists(kept[sign]) == ordered_extremes(responses.numpy(), k=k, pole=pole)


def test_extremes_of_two_shards_in_either_order_equal_those_of_the_whole():
    responses = torch.randn(20, 4, 3, 3, generator=torch.Generator().manual_seed(1)).round(decimals=1)
    whole = listen_in_parts(responses, [], k=5)
    numbers = torch.arange(20)
    halves = []
    for part in (numbers[:7], numbers[7:]):
        heard = Heard(k=5, center=(0, 0), floor={s: torch.full((4, 5), -torch.inf) for s in (1, -1)})
        heard.hear(responses[part], part, torch.ones(len(part), dtype=torch.bool))
        halves.append({s: Extremes.empty(4, k=5, sign=s).merge(*heard.flat(s)) for s in (1, -1)})
    for sign in (1, -1):
        assert as_lists(halves[0][sign].merged_with(halves[1][sign])) == as_lists(whole[sign])
        assert as_lists(halves[1][sign].merged_with(halves[0][sign])) == as_lists(whole[sign])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_response_that_is_not_finite_never_enters_a_list(bad):
    responses = torch.ones(3, 1, 2, 2)
    responses[1, 0, 1, 0] = bad
    kept = listen_in_parts(responses, [], k=3)
    assert [entry[1] for entry in as_lists(kept[1])[0]] == [0, 2]
    assert [entry[1] for entry in as_lists(kept[-1])[0]] == [0, 2]


def test_images_that_could_not_be_shown_never_enter_a_list():
    heard = Heard(k=2, center=(0, 0), floor={s: torch.full((1, 2), -torch.inf) for s in (1, -1)})
    heard.hear(torch.tensor([[[[5.0]]], [[[7.0]]]]), torch.arange(2), torch.tensor([True, False]))
    assert as_lists(Extremes.empty(1, k=2, sign=1).merge(*heard.flat(1))) == [[(5.0, 0, 0, 0)]]


def test_of_equal_positions_the_first_in_row_major_order_counts_in_any_memory_format():
    responses = torch.zeros(1, 2, 3, 3)
    responses[0, 1, 1, 2] = responses[0, 1, 2, 0] = 4
    for maps in (responses, responses.contiguous(memory_format=torch.channels_last)):
        place = first_position(maps, torch.tensor([0]), torch.tensor([1]), torch.tensor([4.0]))
        assert place.tolist() == [5]


def test_moments_do_not_depend_on_how_the_session_was_cut_and_survive_bad_conditioning():
    values = np.random.default_rng(0).normal(1e6, 1, (301, 2)).astype(np.float32)
    counted = np.ones_like(values, dtype=bool)
    whole = Moments.of(values, counted)
    parts = Moments.of(values[:30], counted[:30]).merge(Moments.of(values[30:], counted[30:]))
    exact = values.astype(np.float64)
    np.testing.assert_allclose(parts.mean, exact.mean(0), rtol=1e-12)
    np.testing.assert_allclose(parts.m2, ((exact - exact.mean(0)) ** 2).sum(0), rtol=1e-9)
    np.testing.assert_allclose(whole.m2, parts.m2, rtol=1e-9)


def test_moments_of_nothing_merge_with_those_of_something():
    nothing = Moments.of(np.array([[np.nan]], np.float32), np.array([[False]]))
    something = Moments.of(np.array([[2.0], [4.0]], np.float32), np.array([[True], [True]]))
    for merged in (nothing.merge(something), something.merge(nothing)):
        assert (merged.n[0], merged.mean[0], merged.m2[0]) == (2, 3.0, 2.0)


@given(blocks=st.integers(1, 40), seed=st.integers(0, 1000))
def test_the_ladder_gives_the_same_bits_in_any_order(blocks, seed):
    rng = np.random.default_rng(seed)
    leaves = [Moments.of(rng.normal(size=(5, 3)), np.ones((5, 3), dtype=bool)) for _ in range(blocks)]
    totals = []
    for order in (range(blocks), rng.permutation(blocks).tolist()):
        ladder = Ladder({})
        for block in order:
            ladder.add(0, block, leaves[block])
        totals.append(ladder.total())
    assert totals[0].mean.tobytes() == totals[1].mean.tobytes()
    assert totals[0].m2.tobytes() == totals[1].m2.tobytes()
    assert totals[0].n.tolist() == [5 * blocks] * 3
