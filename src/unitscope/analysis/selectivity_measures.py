"""What the columns of `measures/selectivity.parquet` say of themselves. The table has a row per unit and category."""

from __future__ import annotations

import math

from unitscope.analysis.measures import Measure, Table

ENDS = (("preferred", "highest"), ("antipreferred", "lowest"))

INDICES = (
    Measure("selectivity", "mean rectified response to the category over that to the category plus that to all else",
            (0, 1), "answers to all else only (0.5: no difference)", "answers to the category only", ""),
    Measure("fsi", "difference of the same two means over their sum", (-1, 1), "answers to all else only",
            "answers to the category only; 1/3: twice as strongly", "freiwald2010"),
    Measure("d_prime", "distance of the two means in standard deviations", (-math.inf, math.inf),
            "answers less to the category (0: no difference)", "answers more to it", "vinken2023"),
    Measure("auroc", "how often an image of the category has the higher response, of pairs with one of another",
            (0, 1), "never (0.5: no difference)", "always", ""),
    Measure("class_selectivity", "highest mean of one label against the mean of all other labels' means", (0, 1),
            "all labels alike", "answers to one label only", "morcos2018"),
    Measure("proportion", "share of all rectified response that goes to the category; chance is its prevalence", (0, 1),
            "none", "all", ""),
)  # fmt: skip

TWO_SIDED = tuple(
    measure
    for pole, which in ENDS
    for measure in (
        Measure(f"{pole}_share", f"share of the category among the images with the {which} responses", (0, 1),
                "none of it", "nothing else", ""),
        Measure(f"{pole}_enrichment", f"that share among the {which} responses over the category's prevalence",
                (0, math.inf), "none of it (1: as by chance)", "many times as many as by chance", ""),
        Measure(f"{pole}_p", f"chance of so large a share among the {which} responses, of as many other labels or "
                "photographs", (0, 1), "no chance", "by chance", ""),
        Measure(f"{pole}_q", "the same, controlled for false discoveries over all units", (0, 1), "no chance",
                "by chance", "benjamini1995"),
        Measure(f"{pole}_evenness", f"entropy of the category's labels among the {which} responses over its maximum",
                (0, 1), "one label only", "all labels alike", ""),
    )
)  # fmt: skip

FURTHER = (
    Measure("dichotomy", "the smaller of the two shares over the larger", (0, 1), "the category stands at one end only",
            "at both ends alike", ""),
    Measure("overlap", "images at both ends over images at either (Jaccard)", (0, 1), "no image at both",
            "the same images", ""),
    Measure("labels_below", "share of the category's labels with a mean response below that of all other labels",
            (0, 1), "all above", "all below", ""),
    Measure("label_skewness", "skewness of the mean responses to the category's labels", (-math.inf, math.inf),
            "a few labels far below", "a few labels far above", ""),
)  # fmt: skip


def _never(_record: object) -> None:
    """Nothing, since selectivity is for categories that are asked for (`unitscope measure --categories`)."""


SELECTIVITY = Table("selectivity", _never, (*INDICES, *TWO_SIDED, *FURTHER))
