"""Which network a record is of: the facts that tell one network from another, compared. No torch.

`fingerprint` covers weights and preprocessing, `computation` the operations with their constants
(anatomy/computation.py). Both must agree.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

log = logging.getLogger(__name__)


def difference(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """What tells two networks apart, from the facts that are kept of them, as it follows "other"; empty where nothing
    does.

    Where one of them does not say what it computes (an older unitscope wrote it), or says it by another scheme (another
    version of torch), only weights and preprocessing are compared, and a line in the log says so.
    """
    if there.get("fingerprint") != here.get("fingerprint"):
        return "weights or preprocessing"
    old, new = there.get("computation"), here.get("computation")
    if old == new:
        return ""
    if old is None or new is None or scheme(old) != scheme(new):
        log.warning(
            "%s: only weights and preprocessing were compared, not what is computed with them, since the record was "
            "made by %s.",
            there.get("name") or here.get("name") or "a network",
            "an older unitscope" if old is None or new is None else f"another version of torch ({scheme(old)})",
        )
        return ""
    return "operations or constants (with the same weights)"


def scheme(computation: str) -> str:
    """How a computation was written down: fingerprints are compared within one scheme only."""
    return computation.rpartition("/")[0]
