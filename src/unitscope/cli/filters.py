"""filters: what later convolutions would look like without what lies between, and whether similar filters meet."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cyclopts.types import NonNegativeInt, PositiveInt

from unitscope.cli.common import Several, one_or_many, progress_bars, terminal_width
from unitscope.cli.options import DEFAULT_MODEL, ModelOptions, open_network
from unitscope.cli.text_tables import paragraph, table

if TYPE_CHECKING:
    import pandas

    from unitscope.recording.filter_tables import Filtered


def filters(
    model: str,
    /,
    *,
    record: Path,
    sites: Several[str] = None,
    mode: Literal["max_tap", "max_tap_shifted", "full"] = "max_tap",
    fold: bool = False,
    weigh_by: Several[str] = None,
    untrained: NonNegativeInt = 3,
    permutations: PositiveInt = 10_000,
    seed: int = 0,
    options: ModelOptions = DEFAULT_MODEL,
) -> None:
    """Make the virtual filters of later convolutions, and test whether they join similar filters.

    The record keeps them; the next atlas shows them.

    Args:
        model: What `unitscope sites` takes; the network of the record.
        record: A folder that `unitscope survey` made.
        sites: Convolutions, or globs. By default those that read the first filters directly or along skips.
        mode: Strongest tap of each kernel (the paper's), the same in its place, or all taps.
        fold: Multiply the gains of batch normalizations in.
        weigh_by: Images; each channel then counts by its standard deviation over them.
        untrained: How many untrained copies of the network are tested beside it.
        permutations: How many permutations a test draws.
        seed: Of the permutations.
    """
    from unitscope.analysis.couplings import couplings
    from unitscope.recording.filter_tables import filters as filters_of

    network = open_network(model, options)
    images = None if weigh_by is None else one_or_many(weigh_by)
    with progress_bars() as show_progress:
        found = filters_of(
            network, sites, record=record, images=images, mode=mode, folded=fold, baselines=untrained,
            progress=lambda done, total: show_progress("filters", done, total),
        )  # fmt: skip
    tests, _ = couplings(record, permutations=permutations, seed=seed)
    print(filters_table(found, width=terminal_width()))
    print(f"\n{coupling_table(tests, width=terminal_width())}")
    print(f"\nThe record {record} keeps them. Next: unitscope atlas {record} --to atlas")


def filters_table(found: Mapping[str, Filtered], *, width: int) -> str:
    """Which convolutions, by which way, and how near the linearized network they come."""
    import numpy as np

    rows, notes = [], []
    for site, one in found.items():
        known = one.cosine[np.isfinite(one.cosine)]
        cosine = f"{np.median(known):.2f}" if len(known) else ""
        pixels = "x".join(str(side) for side in one.filters.pictures.shape[2:])
        rows.append((site, str(len(one.filters.pictures)), pixels, cosine, " > ".join(one.filters.chain[:-1])))
        notes += [f"{site}: {one.why}"] if one.why else []
    made = next(iter(found.values())).filters
    legend = (
        f"Mode {made.mode}, batch normalization {'folded in' if made.folded else 'left out'}. Cosine: median over "
        "units of that with what the linearized network weighs, all branches and normalizations included; 1 is exact."
    )
    headings = (("convolution", "<"), ("units", ">"), ("filter", ">"), ("cosine", ">"), ("through", "<"))
    return "\n".join(
        [table(headings, rows, width=width), "", *(paragraph(text, width=width) for text in [legend, *notes])]
    )


def coupling_table(tests: pandas.DataFrame, *, width: int) -> str:
    """The four tests of each convolution, beside those of untrained networks."""
    from unitscope.analysis.couplings import TESTS

    own, others = tests[tests["seed"].isna()], tests[tests["seed"].notna()]
    rows = []
    for row in own.itertuples():
        beside = others[(others["site"] == row.site) & (others["test"] == row.test)]["z"].dropna()
        spread = f"{beside.min():.1f} to {beside.max():.1f}" if len(beside) else ""
        numbers = [
            f"{row.value:.3f}",
            f"{row.chance:.3f}",
            f"{row.z:.1f}",
            f"{row.p:.4f}",
            f"{100 * row.significant:.0f} %",
        ]
        if row.units == 0:
            numbers = ["undefined", "", "", "", ""]
        rows.append((row.site, row.test, *numbers, spread))
    headings = (
        ("convolution", "<"), ("test", "<"), ("value", ">"), ("chance", ">"), ("z", ">"), ("p", ">"), ("units", ">"),
        ("untrained z", ">"),
    )  # fmt: skip
    legend = [f"{name}: {says}." for name, says in TESTS.items()]
    legend += ["Units: share with q < 0.05. Undefined: its units read fewer than three filters each."]
    return "\n".join([table(headings, rows, width=width), "", *(paragraph(text, width=width) for text in legend)])
