"""What a reproduction leaves: claims beside findings, figures, and one page that a person reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from unitscope.durable import make_folder, write_file, write_json
from unitscope.html_templates import render


@dataclass(frozen=True)
class Claim:
    """One statement of a paper beside what was found here. `verdict` is for people: "as the paper says", ..."""

    what: str
    paper: str
    found: str
    verdict: str = ""
    where: str = ""
    "Table, figure or section of the paper."


@dataclass(frozen=True)
class Figure:
    """A picture file in the report's folder, with its caption."""

    file: str
    caption: str


@dataclass(frozen=True)
class Report:
    """A paper, reproduced on given networks and images."""

    paper: str
    title: str
    circumstances: str
    "Which networks and which images, and how these differ from the paper's."
    claims: Sequence[Claim]
    figures: Sequence[Figure] = field(default=())
    conclusion: str = ""


def write_report(report: Report, folder: Path) -> Path:
    """Write `report.json` and the page `index.html` into the folder, and return the page."""
    make_folder(folder)
    write_json(folder / "report.json", asdict(report))
    page = folder / "index.html"
    write_file(page, render("report.html.j2", report=report).encode())
    return page
