"""The templates of the HTML pages: one style, numbers written alike, names escaped, and no script but their own."""

import base64
import hashlib
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup, escape

PACKAGE = "thaw.evaluation"


def template(name: str, package: str = PACKAGE, *, script: str = "", style: str = "") -> jinja2.Template:
    """Return the template of a page, which lies in ``package``, in the one style.

    A policy in the page forbids its browser to fetch anything and to run any other script, whatever is in a name.

    Args:
        name: of the template's file.
        package: that it lies in.
        script: file of the page's script, in this package.
        style: file of what the page has besides the common style, in this package.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters = (percent, whole, points, number, breakable)
    environment.filters |= {each.__name__: each for each in filters}
    styles = "\n".join(_file(each) for each in ("page.css", style) if each)
    code = f"\n{_file(script)}\n" if script else ""
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    allowed = f"'sha256-{digest}'" if script else "'none'"
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}"
    environment.globals |= {
        "style": Markup(styles),  # noqa: S704 -- the project's own file
        "script": Markup(code),  # noqa: S704 -- the same
        "policy": policy,
    }
    return environment.from_string(resources.files(package).joinpath(name).read_text(encoding="utf-8"))


def _file(name: str) -> str:
    return resources.files(PACKAGE).joinpath(name).read_text(encoding="utf-8").rstrip()


def percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f} %"


def whole(share: float | None) -> str:
    """Return a share in whole percents, for one of few images."""
    return "–" if share is None else f"{100 * share:.0f} %"


def points(share: float) -> str:
    """Return a difference of shares in signed percentage points, without a negative zero."""
    return f"{round(100 * share, 1) + 0.0:+.1f}".replace("-", "−")


def breakable(name: str) -> Markup:
    """Return a name that may be broken after an underscore, which browsers do not by themselves."""
    return escape(name).replace("_", Markup("_<wbr>"))


def number(value: Any) -> str:
    """Return a number with its thousands apart, or one below ten with three digits; other things as they are."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
