"""What the columns of `measures/sharing.parquet` mean. The table has a row per unit at a sum behind a skip.

`unitscope sharing` makes the table while it shows the images again (`recording/channel_correlations.py`).
"""

from __future__ import annotations

from unitscope.analysis.measure_declarations import Measure, Table

SHARING = Table(
    "sharing",
    None,
    (
        Measure("skip_fraction", "mean magnitude that the skip brings, over that of skip and branch together", (0, 1),
                "the branch overwrites the channel", "the channel is passed on as it is", "longon2024"),
        Measure("similarity_through_block", "correlation of the channel before and behind its block, over images and "
                "positions", (-1, 1), "turned over (0: another one)", "the same response", ""),
        Measure("similarity_of_branch", "correlation of what the branch adds with what skips it", (-1, 1),
                "takes away what is there (0: adds something else)", "adds more of the same", ""),
    ),
)  # fmt: skip
