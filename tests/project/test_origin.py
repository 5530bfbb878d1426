"""Where the package comes from, and that nobody is led to the other program that PyPI has under its name."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from thaw.project import origin, template

ROOT = Path(__file__).resolve().parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Told:
    """An installed package of which pip has noted where it came from, or has not."""

    def __init__(self, text: str | None) -> None:
        self.text = text

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self.text


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        (None, ""),
        ({"url": "file:///a/thaw", "dir_info": {"editable": True}}, ""),
        ({"url": "file:///a/thaw.whl", "archive_info": {"hashes": {"sha256": "ab"}}}, ""),
        ({"url": "file:///a/thaw", "vcs_info": {"vcs": "git", "commit_id": COMMIT}}, ""),
        (
            {"url": "https://git.example/thaw.git", "vcs_info": {"vcs": "git", "commit_id": COMMIT}},
            f"thaw @ git+https://git.example/thaw.git@{COMMIT}",
        ),
        (
            {"url": "https://files.example/thaw-1-py3-none-any.whl", "archive_info": {"hashes": {"sha256": "ab"}}},
            "thaw @ https://files.example/thaw-1-py3-none-any.whl#sha256=ab",
        ),
        (
            {"url": "https://files.example/thaw-1-py3-none-any.whl", "archive_info": {}},
            "thaw @ https://files.example/thaw-1-py3-none-any.whl",
        ),
    ],
)
def test_a_project_names_the_package_by_its_address_or_not_at_all(
    told: dict[str, object] | None, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origin, "distribution", lambda _: Told(json.dumps(told) if told else None))
    assert origin.requirement() == wanted
    written = tomllib.loads(dict(template.files("flowers"))[Path("pyproject.toml")])
    assert written["project"]["dependencies"] == ([wanted] if wanted else [])


def test_no_guide_message_or_file_of_a_project_has_pip_look_for_the_bare_name() -> None:
    bare = re.compile(r"(?:pip install|uv add|uv pip install)[^`\n|]*[\s'\"]thaw(?![\w/-])|thaw==")
    texts = {path: path.read_text(encoding="utf-8") for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))}
    texts |= {path: text for path, text in template.files("flowers") if path.suffix in (".md", ".py", ".yaml")}
    texts |= {
        path: path.read_text(encoding="utf-8") for top in ("thaw", "stages") for path in (ROOT / top).rglob("*.py")
    }
    warned = "`pip install thaw` would bring another program"  # what a project's own file says of it
    found = {path: bare.findall(text.replace(warned, "")) for path, text in texts.items()}
    assert {path: words for path, words in found.items() if words} == {}
    assert bare.search("pip install --upgrade thaw") and bare.search("pip install 'thaw[s3]'")
