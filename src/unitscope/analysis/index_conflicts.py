"""Where indices of selectivity disagree about a unit, and why one of them is null, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas

SELECTIVE = {"selectivity": 0.65, "d_prime": 0.65, "auroc": 0.68}
"""From where on each index calls a unit selective. 0.65 is the study's; between two normal distributions a d' of 0.65
is an AUROC of 0.68."""

CALLED = {"selectivity": "selectivity", "d_prime": "d'", "auroc": "AUROC"}


def notes(table: pandas.DataFrame, *, each_image: bool, label_means: bool) -> list[str | None]:
    """A sentence or more for each row of a table of selectivity; None where there is nothing to say.

    `each_image`: each image's response is known; `label_means`: the means per label give that of the category.
    """
    values = {name: table[name].to_numpy(float) for name in (*SELECTIVE, "proportion", "antipreferred_images")}
    missing = _missing(each_image=each_image, label_means=label_means)
    found = []
    for row in range(len(table)):
        numbers = {name: column[row] for name, column in values.items()}
        found.append(" ".join([*_verdicts(numbers, silent=each_image or label_means), *missing]) or None)
    return found


def _missing(*, each_image: bool, label_means: bool) -> list[str]:
    if each_image:
        return []
    what = "d' and AUROC need" if label_means else "Indices need"
    return [f"{what} each image's response, which a survey with --responses keeps."]


def _verdicts(row: dict[str, float], *, silent: bool) -> list[str]:
    sentences = []
    if silent and np.isnan(row["selectivity"]):
        sentences.append("No response above zero, or one that is not finite: no index of rectified responses.")
    known = {name: row[name] for name in SELECTIVE if np.isfinite(row[name])}
    yes, no = ([name for name in known if (known[name] >= SELECTIVE[name]) == verdict] for verdict in (True, False))
    if yes and no:
        sentences.append(f"{_values_text(yes, known)} would call it selective, {_values_text(no, known)} would not.")
    if row["selectivity"] >= SELECTIVE["selectivity"] and row["proportion"] < 0.5:
        sentences.append(f"Yet the category has only {100 * row['proportion']:.0f} % of all its response.")
    if row["antipreferred_images"] == 0:
        sentences.append("No lower end: nothing is below zero here, or all is equal.")
    return sentences


def _values_text(names: list[str], values: dict[str, float]) -> str:
    return " and ".join(f"{CALLED[name]} ({values[name]:.2f})" for name in names)
