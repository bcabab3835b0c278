"""Indices of category selectivity the slow, certain way: loops over images and pairs, exact fractions, definitions."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations


def share_of_rectified(values: Sequence[float], member: Sequence[bool]) -> float:
    """m_C / (m_C + m_O) of the mean rectified responses; NaN where both are zero."""
    inside, outside = (
        statistics.fmean([max(v, 0.0) for v, m in zip(values, member, strict=True) if m is side])
        for side in (True, False)
    )
    return inside / (inside + outside) if inside + outside > 0 else math.nan


def pairs_won(values: Sequence[float], member: Sequence[bool]) -> float:
    """AUROC: every image of the category against every other one."""
    inside = [v for v, m in zip(values, member, strict=True) if m]
    outside = [v for v, m in zip(values, member, strict=True) if not m]
    won = sum((a > b) + 0.5 * (a == b) for a in inside for b in outside)
    return won / (len(inside) * len(outside))


def distance(values: Sequence[float], member: Sequence[bool]) -> float:
    """d'."""
    inside = [v for v, m in zip(values, member, strict=True) if m]
    outside = [v for v, m in zip(values, member, strict=True) if not m]
    spread = math.sqrt((statistics.variance(inside) + statistics.variance(outside)) / 2)
    return (statistics.fmean(inside) - statistics.fmean(outside)) / spread if spread else math.nan


def chance_of_groups(at_end: Sequence[str], all_of: Sequence[str], group: set[str]) -> float:
    """How many groups of as many labels have as large a share at the end, beyond their share of all images."""

    def excess(chosen: set[str]) -> Fraction:
        share = Fraction(sum(label in chosen for label in at_end), len(at_end))
        return share - Fraction(sum(label in chosen for label in all_of), len(all_of))

    others = [set(one) for one in combinations(sorted(set(all_of)), len(group))]
    return sum(excess(one) >= excess(group) for one in others) / len(others)


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """q-values by the definition: the smallest p_j m / rank_j among all that are no smaller."""
    ranks = {i: rank for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i]), 1)}
    return [min(1.0, min(p[j] * len(p) / ranks[j] for j in ranks if ranks[j] >= ranks[i])) for i in range(len(p))]


def entropy_over_maximum(counts: Sequence[int]) -> float:
    total = sum(counts)
    return -sum(n / total * math.log(n / total) for n in counts if n) / math.log(len(counts))
