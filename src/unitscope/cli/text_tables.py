"""Facts as text: tables, paragraphs and numbers, 80 columns wide where that is possible. Prints nothing.

site     units  status          numbers stand right (">"), words left ("<")
conv1       64  exact
a_name_that_is_too_long         a first cell that is too wide stands on a line of its own
             5  exact
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unitscope.vocabulary import Size

Column = tuple[str, str]
"""A heading, and "<" or ">": the side on which its cells stand."""


def paragraph(text: str, *, width: int = 80) -> str:
    """One paragraph, wrapped. Names and paths are never broken."""
    return textwrap.fill(" ".join(text.split()), width, break_long_words=False, break_on_hyphens=False)


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, width: int = 80) -> str:
    """Rows under headings. A first cell that would make its line longer than `width` stands on a line of its own."""
    widths = [max(len(heading), *(len(row[i]) for row in rows)) for i, (heading, _) in enumerate(columns)]
    gap = 2 if sum(widths) + 2 * (len(columns) - 1) <= width else 1
    others = sum(widths[1:]) + sum(_gaps(columns, gap))
    widths[0] = min(widths[0], max(len(columns[0][0]), width - others))
    lines = [_line(columns, widths, [heading for heading, _ in columns], gap=gap)]
    for row in rows:
        fits = len(row[0]) <= widths[0]
        lines += [] if fits else [row[0]]
        lines.append(_line(columns, widths, row if fits else ("", *row[1:]), gap=gap))
    return "\n".join(lines)


def _gaps(columns: Sequence[Column], gap: int) -> list[int]:
    """Spaces before each column but the first. Numbers may stand close to each other, words may not."""
    return [gap if side == ">" else 2 for _, side in columns[1:]]


def _line(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str], *, gap: int) -> str:
    sides = [side for _, side in columns]
    padded = [f"{cell:{side}{width}}" for cell, side, width in zip(cells, sides, widths, strict=True)]
    return "".join(
        [padded[0], *(" " * n + cell for n, cell in zip(_gaps(columns, gap), padded[1:], strict=True))]
    ).rstrip()


def wide_table(headings: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> str:
    """A table whose headings are broken over several lines, a word a line.

    Columns for which there is no room stand in further tables below, each with the first two columns.
    """
    count = len(headings)
    while count > 3 and max(map(len, _broken(headings[:count], [row[:count] for row in rows], width))) > width:
        count -= 1
    lines = _broken(headings[:count], [row[:count] for row in rows], width)
    if count == len(headings):
        return "\n".join(lines)
    rest = [(*row[:2], *row[count:]) for row in rows]
    return "\n".join([*lines, "", wide_table([*headings[:2], *headings[count:]], rest, width)])


def _broken(headings: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """The lines of a table whose headings have a word a line; the last words stand on one line."""
    words = [heading.split() for heading, _ in headings]
    height = max(map(len, words))
    top = [tuple(([""] * (height - len(w)) + w)[i] for w in words) for i in range(height)]
    columns = [(cell, side) for cell, (_, side) in zip(top[0], headings, strict=True)]
    return table(columns, [*top[1:], *rows], width=width).split("\n")


def number_text(value: float) -> str:
    """Two decimals, so that points stand below each other; very large and very small numbers otherwise."""
    return f"{value:.2f}" if value == 0 or 0.01 <= abs(value) < 10000 else f"{value:.1e}"


def count_text(count: int, noun: str) -> str:
    """A count and what is counted: "1 unit", "1,024 units"."""
    return f"{count:,} {noun}" + "s" * (count != 1)


def pair_text(size: Size, by: str = " x ") -> str:
    """Rows and columns: "56 x 56"."""
    return f"{size[0]}{by}{size[1]}"


def size_text(size: Size) -> str:
    """One number where rows and columns agree: "27", else "27x31"."""
    return str(size[0]) if size[0] == size[1] else pair_text(size, "x")
