"""A page as one HTML file: styles and pictures inline, nothing loaded, nothing run."""

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ingest_ops.common.verdict import Verdict
from ingest_ops.render.chart import chart_view, spark_view, timeline_view
from ingest_ops.render.model import Code, Column, Fact, Judged, Link, Page, Spark
from ingest_ops.render.numbers import number

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
)
"""What a report may do: show itself. The report page sends it as a header, too."""

TEMPLATES = Path(__file__).parent / "templates"


@cache
def environment() -> Environment:
    """The templates, with everything escaped and a misspelt name an error."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["number"] = number
    made.tests["verdict"] = lambda value: isinstance(value, Verdict)
    made.tests["link"] = lambda value: isinstance(value, Link)
    made.tests["code"] = lambda value: isinstance(value, Code)
    made.tests["judged"] = lambda value: isinstance(value, Judged)
    made.tests["spark"] = lambda value: isinstance(value, Spark)
    made.globals["spark_view"] = spark_view
    made.globals["kind_of"] = lambda block: type(block).__name__
    made.globals["chart_view"] = chart_view
    made.globals["timeline_view"] = timeline_view
    made.globals["as_column"] = lambda column: column if isinstance(column, Column) else Column(column)
    return made


def to_html(page: Page) -> str:
    """Return the page as one HTML document."""
    return render("page.html.j2", page=page, policy=CONTENT_SECURITY_POLICY, generated=_generated(page))


def render(template: str, **context: Any) -> str:
    """Fill one of the templates."""
    return environment().get_template(template).render(context)


def _generated(page: Page) -> Fact | None:
    return Fact("Generated at", page.generated_at) if page.generated_at else None
