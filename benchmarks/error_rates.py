"""How often each test calls chance a finding, and how often each interval holds the truth: the tables of
docs/reference/statistics.md.

    python benchmarks/error_rates.py [RUNS]

RUNS is 500 without being said. The simulations are those of tests/statistics/simulations.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(PROJECT), str(PROJECT / "src")]
sys.path = [path for path in sys.path if Path(path or ".").resolve() != Path(__file__).resolve().parent]

from tests.statistics.simulations import INTERVALS, TESTS, share_of_runs  # noqa: E402

PAGE = PROJECT / "docs" / "reference" / "statistics.md"
TABLES = {
    "tests": (TESTS, ("test", "in", "data without an effect", "found at 0.05", "expected", "note")),
    "intervals": (INTERVALS, ("interval", "in", "data", "holds the truth", "expected", "note")),
}


def main(runs: int) -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name, (simulations, heads) in TABLES.items():
        rows = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
        for one in simulations:
            share, (low, high) = share_of_runs(one, runs), one.bounds
            rows.append(f"| {one.name} | `{one.where}` | {one.data} | {share:.3f} | {low:g} to {high:g} | {one.note} |")
            print(rows[-1], flush=True)
        first, last = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, after = text.split(first)[0], text.split(last)[1]
        text = "\n".join([before + first, *rows, last + after])
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
