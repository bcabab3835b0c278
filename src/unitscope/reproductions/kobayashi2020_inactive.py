"""Section 3.5 and table 1 of kobayashi2020: inactive units of the first max-pooling, and noise in them."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

from unitscope.errors import BadInput, Failure
from unitscope.perturbation.conditions import Condition
from unitscope.perturbation.experiment import BATCH, perturb
from unitscope.reproductions.kobayashi2020_figures import losses_figure
from unitscope.reproductions.kobayashi2020_study import PAPER_PLACES, Study

if TYPE_CHECKING:
    import pandas

    from unitscope.networks import Network
    from unitscope.record import Record

SEEDS = 20
"""Of the noise, and draws of active units: what noise does to these depends on which are drawn."""

PAPER_SHARE = 13 / 64
"""Of the paper's ResNet34, so many units are inactive. Where none is, as many of the least active are disturbed."""

NOISE_CONDITIONS = (Condition(), Condition(which="one per batch"), Condition(target="active"))
"""The paper's two, and the same noise in as many active units."""

INSTEAD, BATCH_INSTEAD = 200, 10
"""Images, and images in a batch, of that control."""

PRINTED = (
    ("ResNet34 in print", "all", 1.26962), ("ResNet34 in print", "one per batch", 2.40560e-2),
    ("PlainNet34 in print", "all", -1.66893e-6), ("PlainNet34 in print", "one per batch", -8.34465e-7),
)  # fmt: skip
"""Table 1. The last two are 14 and 7 units of 2^-23, the rounding of a loss in float32."""


def disturb_inactive(study: Study) -> None:
    """Count inactive units, and measure what noise in them does to the loss; else in the least active ones."""
    import pandas

    tables = []
    for number, (network, record, title) in enumerate(zip(study.networks, study.records, study.titles, strict=True)):
        site = study.places[number].get(PAPER_PLACES[0][0])
        if site is None:
            study.claim(f"inactive units, {title}", "13 of 64", "no max-pooling", "does not apply", "table 1")
            continue
        units = record.units()
        inactive = units[(units["site"] == site) & units["inactive"].fillna(False).astype(bool)]
        channels = record.sites[site].channels
        found = f"{len(inactive)} of {channels}; of all sites {int(units['inactive'].sum())} of {len(units):,} units"
        verdict = "as the paper says" if len(inactive) else "not found here"
        study.claim(f"inactive units of {site}, {title}", "13 of 64 (ResNet34), 2 of 64 (PlainNet34)", found, verdict,
                    "table 1")  # fmt: skip
        table = changes(study, network, record, site, number, none=inactive.empty)
        if table is not None:
            tables.append(table.assign(network=title))
    if tables:
        whole = pandas.concat(tables, ignore_index=True)
        study.write("table-1", whole[["network", *(name for name in whole.columns if name != "network")]])
        caption = (
            "Change of loss by rectified normal noise. Bars: 95 % over images, and draws of active units. Hollow: the "
            "paper's own networks, as printed."
        )
        study.keep("table-1", losses_figure(whole, PRINTED), caption)


def changes(
    study: Study, network: Network, record: Record, site: str, number: int, *, none: bool
) -> pandas.DataFrame | None:
    """The rows of table 1 of one network, or None where the loss cannot be computed."""
    title = study.titles[number]
    what = f"noise in {'the least active' if none else 'inactive'} units changes the loss, {title}"
    said = "all: +1.270 (ResNet34), \N{MINUS SIGN}1.7e-6 (PlainNet34); one: +0.024, \N{MINUS SIGN}8.3e-7"
    tell = partial(study.tell, f"noise in {title}")
    try:
        rows = perturb(
            network, study.images, record=record, units=least_active(record, site) if none else None, site=site,
            conditions=NOISE_CONDITIONS, seeds=SEEDS, count=INSTEAD if none else None,
            batch=BATCH_INSTEAD if none else BATCH, progress=tell,
        )  # fmt: skip
    except (BadInput, Failure) as error:
        study.claim(what, said, str(error), "cannot be told", "table 1")
        return None
    chosen = rows[rows["target"] == "chosen"]
    found = "; ".join(f"{row.which}: {describe_change(row)}" for row in chosen.itertuples())
    active = rows[rows["target"] == "active"]
    found += "".join(f"; as many active ones: {describe_change(row)}" for row in active.itertuples())
    if none:
        found = f"no unit of {site} is inactive; the {int(chosen['units'].max())} least active instead: {found}"
    study.claim(what, said, found, inactive_verdict(chosen, none=none), "table 1")
    return rows


def least_active(record: Record, site: str) -> list[str]:
    """Of a site's units those that answer the fewest images, then the weakest: a share as large as the paper's."""
    units = record.units()
    here = units[units["site"] == site].sort_values(["positive_images", "peak_max"], kind="stable")
    return [f"{site}:{channel}" for channel in here["channel"].head(max(1, round(PAPER_SHARE * len(here))))]


def describe_change(row: Any) -> str:
    """A change with its interval; that is undefined for fewer than three images or batches."""
    known = math.isfinite(row.ci_low)
    interval = f" [{row.ci_low:+.2g}, {row.ci_high:+.2g}]" if known else f" (too few {row.ci_over}: no interval)"
    return f"{row.delta_loss:+.3g}{interval}".replace("-", "\N{MINUS SIGN}")


def inactive_verdict(chosen: pandas.DataFrame, *, none: bool) -> str:
    """What the intervals say of noise in all chosen units."""
    rows = chosen[chosen["which"] == "all"]
    if none:
        return "another question: these units are used"
    low, high = rows["ci_low"].iloc[0], rows["ci_high"].iloc[0]
    if not math.isfinite(low):
        return "cannot be told: no interval"
    return "the loss rises" if low > 0 else "the loss falls" if high < 0 else "no change that could be seen"
