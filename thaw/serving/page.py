"""The page of the server and of the demo: one HTML file with its style and its script inside, and what it may do."""

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib import resources

STYLE, SCRIPT, CLASSES, POLICY, MORE = "/*style*/", "/*script*/", "/*classes*/", "<!--policy-->", "<!--more-->"


def of_server(classes: Sequence[str]) -> tuple[str, str]:
    """Return the page that asks the server it came from, and its Content-Security-Policy: nothing from elsewhere."""
    style, script = read("page.css"), read("server.js") + read("page.js")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return filled(style, script, classes), policy


def filled(style: str, script: str, classes: Sequence[str], policy: str = "", more: str = "") -> str:
    """Return the page.

    Args:
        policy: its Content-Security-Policy, where no server gives it with the page.
        more: elements that the script finds in it.
    """
    told = f'<meta http-equiv="Content-Security-Policy" content="{policy}">' if policy else ""
    # Within a script no tag may end it, whatever a class is called.
    names = json.dumps(list(classes), ensure_ascii=False).replace("<", "\\u003c")
    parts = {STYLE: style, SCRIPT: script, CLASSES: names, POLICY: told, MORE: more}
    text = read("page.html")
    places = sorted((text.index(mark), mark) for mark in parts)
    pieces, end = [], 0
    for place, mark in places:  # not one `replace` after another, which would look into what was put in
        pieces += [text[end:place], parts[mark]]
        end = place + len(mark)
    return "".join([*pieces, text[end:]])


def read(name: str) -> str:
    return resources.files("thaw.serving").joinpath("web", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
