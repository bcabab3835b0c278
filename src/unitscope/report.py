"""What a reproduction leaves: claims beside findings, figures, and one page that a person reads."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from unitscope.durable import make_folder, write_file, write_json


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
    write_file(page, _page(report).encode())
    return page


def _page(report: Report) -> str:
    said = html.escape
    rows = "".join(
        f"<tr><th scope=row>{said(c.what)}<small>{said(c.where)}</small></th><td>{said(c.paper)}</td>"
        f"<td>{said(c.found)}</td><td>{said(c.verdict)}</td></tr>"
        for c in report.claims
    )
    figures = "".join(
        f'<figure><img src="{said(f.file)}" alt=""><figcaption>{said(f.caption)}</figcaption></figure>'
        for f in report.figures
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><title>{said(report.title)}</title><style>{STYLE}</style>
<h1>{said(report.title)}</h1><p class="lead">{said(report.circumstances)}</p>
<div class="wide"><table><thead><tr><th></th><th>the paper says</th><th>we find</th><th></th></tr></thead>
<tbody>{rows}</tbody></table></div>
<p class="conclusion">{said(report.conclusion)}</p>{figures}</html>
"""


STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 3rem auto; padding: 0 1.2rem; }
h1 { font: 500 2rem/1.15 Georgia, serif; text-wrap: balance; } .lead { color: GrayText; max-width: 44rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: 0.92rem; }
th, td { text-align: left; vertical-align: top; padding: 0.5rem 0.9rem 0.5rem 0; border-bottom: 1px solid #8884; }
th small { display: block; font-weight: 400; color: GrayText; } .conclusion { font-size: 1.05rem; max-width: 44rem; }
figure { margin: 2.5rem 0; }
img { max-width: 100%; background: #fff; } figcaption { color: GrayText; max-width: 44rem; }
"""
