"""The templates of the HTML pages: one style, numbers written alike, and every name escaped."""

from importlib import resources

import jinja2
from markupsafe import Markup


def template(name: str, package: str = "thaw.evaluation") -> jinja2.Template:
    """Return the template of a page, which lies in ``package``, in the one style."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "points": points}
    style = resources.files("thaw.evaluation").joinpath("report.css").read_text(encoding="utf-8").rstrip()
    environment.globals["style"] = Markup(style)  # noqa: S704 -- the project's own file
    return environment.from_string(resources.files(package).joinpath(name).read_text(encoding="utf-8"))


def percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def points(share: float) -> str:
    """Return a difference of shares in signed percentage points, without a negative zero."""
    return f"{round(100 * share, 1) + 0.0:+.1f}".replace("-", "−")
