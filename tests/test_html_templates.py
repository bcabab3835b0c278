"""HTML comes from templates only, and what stands in a template's place is escaped."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import jinja2
import pytest

import unitscope
from unitscope.html_templates import render
from unitscope.report import Claim, Figure, Report

TAGS = re.compile(r"</?(?:a|b|p|div|table|tr|t[dh]|svg|path|small|figure|h[1-6])\b[^>]*>")


def test_values_are_escaped_and_what_was_rendered_is_not_escaped_again() -> None:
    inner = render("facts.html.j2", title="a < b", facts={"x & y": "<script>"})
    assert "<caption>a &lt; b</caption>" in inner
    assert "<th>x &amp; y</th><td>&lt;script&gt;</td>" in inner
    assert str(inner) in render("facts.html.j2", title=inner, facts={})


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="facts"):
        render("facts.html.j2", title="a")


def test_a_report_shows_its_claims_and_figures() -> None:
    claims = [Claim("size", "11 < 27", "11", "as the paper says", "figure 4")]
    report = Report("x2020", "A & B", "on two networks", claims, [Figure("a.svg", "fields")], "It holds.")
    page = render("report.html.j2", report=report)
    assert "<th scope=row>size<small>figure 4</small></th><td>11 &lt; 27</td><td>11</td>" in page
    assert '<figure><img src="a.svg" alt=""><figcaption>fields</figcaption></figure>' in page
    assert "<h1>A &amp; B</h1>" in page


@pytest.mark.parametrize("path", sorted(Path(unitscope.__file__).parent.rglob("*.py")), ids=lambda path: path.stem)
def test_no_python_file_holds_html(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    texts = [node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert not [text.value for text in texts if id(text) not in docstrings and TAGS.search(text.value)]
