"""Where the package comes from, and that nobody is led to the other program that PyPI has under its name."""

import json
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from thaw.project import origin, template
from thaw.sweep import multirun

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
    texts |= {path: path.read_text(encoding="utf-8") for path in (ROOT / "thaw" / "sweep").glob("*.py")}
    found = {path: bare.findall(text) for path, text in texts.items()}
    assert {path: words for path, words in found.items() if words} == {}
    assert bare.search("pip install --upgrade thaw") and bare.search("pip install 'thaw[s3]'")


@pytest.mark.parametrize("extra", sorted(set(multirun.EXTRA.values()) | {"s3", "hub", "gpu"}))
def test_what_an_extra_needs_is_installed_by_its_own_names(extra: str) -> None:
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    command = origin.install_extra(extra)
    names = [re.split(r"[<>=~!]", each)[0] for each in stated[extra]]
    assert command.startswith("pip install '") and all(f"'{name}" in command for name in names)
    assert command.count("'") == 2 * len(names)


def test_with_the_package_installed_pip_takes_an_extra_of_it_and_not_a_stranger_of_its_name(tmp_path: Path) -> None:
    """A few messages name an extra as ``thaw[s3]``; who reads them has the package."""
    info = "Metadata-Version: 2.1\nName: thaw\nVersion: 99\nProvides-Extra: s3\n"
    with zipfile.ZipFile(tmp_path / "thaw-99-py3-none-any.whl", "w") as stranger:
        stranger.writestr("thaw-99.dist-info/METADATA", info)
        stranger.writestr("thaw-99.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        stranger.writestr("thaw-99.dist-info/RECORD", "")
    pip = [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--no-index", f"--find-links={tmp_path}"]
    done = subprocess.run([*pip, "thaw[s3]"], capture_output=True, text=True, check=True)
    assert "Would install" not in done.stdout and "already satisfied: thaw[s3]" in done.stdout
    asked = subprocess.run([*pip, "--upgrade", "thaw"], capture_output=True, text=True, check=True)
    assert "Would install thaw-99" in asked.stdout and version("thaw") != "99"  # or the test would show nothing
