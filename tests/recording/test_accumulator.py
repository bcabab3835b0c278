"""Statistics of responses against brute force, however the session was cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.oracles.everything import ordered_extremes
from unitscope.recording.accumulator import PlainAccumulator, find_positions, flatten_candidates
from unitscope.recording.statistics import Extremes, Ladder, Moments

POLES = {"preferred": 1, "antipreferred": -1}


def begun(center: tuple[int, int], *, units: int, k: int) -> PlainAccumulator:
    """An accumulator at the beginning of a session."""
    accumulator = PlainAccumulator(center)
    accumulator.begin({sign: np.full((units, k), -np.inf, np.float32) for sign in (1, -1)})
    return accumulator


def add_in_parts(responses: torch.Tensor, cuts: list[int], *, k: int, per_image: int = 1) -> dict[int, Extremes]:
    """Extremes of a session that was shown in the blocks between `cuts`, each in batches of two."""
    units = responses.shape[1]
    kept = {sign: Extremes.empty(units, k=k, sign=sign) for sign in (1, -1)}
    for start, stop in zip([0, *cuts], [*cuts, len(responses)], strict=True):
        accumulator = PlainAccumulator((0, 0), per_image=per_image)
        accumulator.begin({sign: sign * extremes.value for sign, extremes in kept.items()})
        for i in range(start, stop, 2):
            numbers = torch.arange(i, min(i + 2, stop))
            accumulator.add(responses[numbers], numbers, torch.ones(len(numbers), dtype=torch.bool))
        for sign, extremes in kept.items():
            extremes.insert(*flatten_candidates(accumulator.candidates[sign]))
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
    kept = add_in_parts(responses, sorted(cut for cut in cuts if cut < stimuli), k=k)
    for pole, sign in POLES.items():
        assert as_lists(kept[sign]) == ordered_extremes(responses.numpy(), k=k, pole=pole)


def test_long_lists_equal_a_full_sort():
    responses = torch.randn(150, 2, 2, 2, generator=torch.Generator().manual_seed(3)).round(decimals=1)
    kept = add_in_parts(responses, [40, 90], k=100)
    for pole, sign in POLES.items():
        assert as_lists(kept[sign]) == ordered_extremes(responses.numpy(), k=100, pole=pole)


def test_extremes_of_two_shards_in_either_order_equal_those_of_the_whole():
    responses = torch.randn(20, 4, 3, 3, generator=torch.Generator().manual_seed(1)).round(decimals=1)
    whole = add_in_parts(responses, [], k=5)
    numbers = torch.arange(20)
    halves = []
    for part in (numbers[:7], numbers[7:]):
        accumulator = begun((0, 0), units=4, k=5)
        accumulator.add(responses[part], part, torch.ones(len(part), dtype=torch.bool))
        halves.append({s: Extremes.empty(4, k=5, sign=s) for s in (1, -1)})
        for sign, extremes in halves[-1].items():
            extremes.insert(*flatten_candidates(accumulator.candidates[sign]))
    for sign in (1, -1):
        assert as_lists(halves[0][sign].merge(halves[1][sign])) == as_lists(whole[sign])
        assert as_lists(halves[1][sign].merge(halves[0][sign])) == as_lists(whole[sign])


def test_of_equal_positions_in_an_image_the_upper_row_wins_and_then_the_left_column():
    """Whether they come at once, or an upper one after lower ones."""
    places = [(1, 0), (0, 2), (2, 1), (0, 1), (1, 2)]
    for parts in ([places], [places[:1], places[1:]], [[place] for place in places]):
        extremes = Extremes.empty(1, k=4, sign=1)
        for part in parts:
            rows, cols = np.array(part).T
            same = np.zeros(len(part), np.int64)
            extremes.insert(same, np.ones(len(part), np.float32), same + 7, rows, cols)
        assert as_lists(extremes) == [[(1.0, 7, 0, 1), (1.0, 7, 0, 2), (1.0, 7, 1, 0), (1.0, 7, 1, 2)]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_response_that_is_not_finite_never_enters_a_list(bad):
    responses = torch.ones(3, 1, 2, 2)
    responses[1, 0, 1, 0] = bad
    kept = add_in_parts(responses, [], k=3)
    assert [entry[1] for entry in as_lists(kept[1])[0]] == [0, 2]
    assert [entry[1] for entry in as_lists(kept[-1])[0]] == [0, 2]


def test_images_that_could_not_be_shown_never_enter_a_list():
    accumulator = begun((0, 0), units=1, k=2)
    accumulator.add(torch.tensor([[[[5.0]]], [[[7.0]]]]), torch.arange(2), torch.tensor([True, False]))
    extremes = Extremes.empty(1, k=2, sign=1)
    extremes.insert(*flatten_candidates(accumulator.candidates[1]))
    assert as_lists(extremes) == [[(5.0, 0, 0, 0)]]


def test_several_patches_of_one_image_when_asked_for():
    responses = torch.tensor([[[[1.0, 5.0], [4.0, 5.0]]], [[[3.0, 0.0], [4.5, 0.0]]]])
    kept = add_in_parts(responses, [], k=4, per_image=2)
    assert as_lists(kept[1]) == [[(5.0, 0, 0, 1), (5.0, 0, 1, 1), (4.5, 1, 1, 0), (3.0, 1, 0, 0)]]
    assert as_lists(kept[-1]) == [[(0.0, 1, 0, 1), (0.0, 1, 1, 1), (1.0, 0, 0, 0), (4.0, 0, 1, 0)]]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_what_is_read_of_a_block_equals_its_definition(memory_format):
    responses = torch.randn(7, 5, 6, 4, generator=torch.Generator().manual_seed(0))
    readable = torch.tensor([True] * 5 + [False, True])
    accumulator = begun((3, 2), units=5, k=2)
    for part in torch.arange(7).split(3):
        accumulator.add(responses[part].contiguous(memory_format=memory_format), part, readable[part])
    block = accumulator.finish(0, readable.numpy(), np.zeros(7, dtype=np.int64), {})
    np.testing.assert_array_equal(block.peak, responses.numpy().max((2, 3)))
    np.testing.assert_array_equal(block.trough, responses.numpy().min((2, 3)))
    np.testing.assert_array_equal(block.positive_positions, (responses.numpy() > 0).sum((2, 3)))
    np.testing.assert_array_equal(block.center, responses.numpy()[:, :, 3, 2] > 0)
    np.testing.assert_allclose(block.mean, responses.numpy().mean((2, 3)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(block.response_sum, responses.numpy()[readable.numpy()].sum(0), rtol=1e-5, atol=1e-5)


def test_of_equal_positions_the_first_in_row_major_order_counts_in_any_memory_format():
    responses = torch.zeros(1, 2, 3, 3)
    responses[0, 1, 1, 2] = responses[0, 1, 2, 0] = 4
    for maps in (responses, responses.contiguous(memory_format=torch.channels_last)):
        [(value, place)] = find_positions(
            maps, torch.tensor([0]), torch.tensor([1]), torch.tensor([4.0]), sign=1, count=1
        )
        assert (value.tolist(), place.tolist()) == ([4.0], [5])


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
        ladder = Ladder("peak")
        for block in order:
            ladder.add(0, block, leaves[block])
        totals.append(ladder.total())
    assert totals[0].mean.tobytes() == totals[1].mean.tobytes()
    assert totals[0].m2.tobytes() == totals[1].m2.tobytes()
    assert totals[0].n.tolist() == [5 * blocks] * 3
