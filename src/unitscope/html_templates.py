"""HTML from the templates in `templates/`: the only way in which this package makes HTML.

Text that comes from a file, a class or a site may hold `<`. In a template every value is escaped, unless the value is
`Markup`, which `render` itself returns. So no other file puts strings of HTML together.

    render("record.html.j2", title="a < b", sites=[])      <p>a &lt; b</p>...
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup


def render(template: str, **values: Any) -> Markup:
    """The HTML of a template.

    Args:
        template: a file in `templates/`, for instance `atlas/index.html.j2`.
        **values: what the template names. A name that is missing raises `jinja2.UndefinedError`.
    """
    from markupsafe import Markup

    return Markup(_environment().get_template(template).render(values))  # the template has escaped every value


@cache
def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("unitscope", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number: f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
    environment.filters["thousands"] = lambda number: f"{number:,}"
    return environment
