"""Facts as text: tables and paragraphs."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unitscope.cli import text_tables

words = st.text("abcdefg_.01", min_size=1, max_size=40)
rows = st.lists(st.tuples(words, st.text("0123456789", max_size=6), st.text("xyz", max_size=8)), min_size=1, max_size=8)
COLUMNS = (("site", "<"), ("units", ">"), ("status", "<"))


@given(rows, st.integers(30, 90))
@settings(suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no error
def test_a_table_keeps_every_cell_and_breaks_no_name(rows: list[tuple[str, str, str]], width: int) -> None:
    lines = text_tables.table(COLUMNS, rows, width=width).split("\n")
    assert [word for line in lines for word in line.split()] == [
        *("site", "units", "status"), *(cell for row in rows for cell in row if cell)
    ]  # fmt: skip
    names = {row[0] for row in rows}
    assert all(len(line) <= width or line in names for line in lines)


def test_numbers_stand_right_and_words_left() -> None:
    assert text_tables.table(COLUMNS, [("conv1", "64", "exact"), ("maxpool", "5", "")]) == (
        "site     units  status\nconv1       64  exact\nmaxpool      5"
    )


def test_a_name_that_is_too_long_stands_alone() -> None:
    assert text_tables.table(COLUMNS, [("conv1", "64", "exact"), ("a" * 20, "5", "exact")], width=24) == (
        f"site       units  status\nconv1         64  exact\n{'a' * 20}\n               5  exact"
    )


@given(st.text("ab \n/", max_size=300))
def test_a_paragraph_breaks_no_path(text: str) -> None:
    assert text_tables.paragraph(text, width=40).split() == text.split()


def test_sizes_are_one_number_where_rows_and_columns_agree() -> None:
    assert text_tables.size_text((27, 27)) == "27"
    assert text_tables.size_text((7, 31)) == "7x31"
    assert text_tables.pair_text((56, 48)) == "56 x 48"
