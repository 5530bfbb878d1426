"""The guides as a site: built strictly, and read without a network."""

import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from docs import pages
from thaw.commands import cli

ROOT = Path(__file__).resolve().parents[1]
needs_the_extra = pytest.mark.skipif(importlib.util.find_spec("zensical") is None, reason="needs the extra `docs`")


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "zensical", "build", "--strict"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the site's pages and its configuration."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copyfile(ROOT / "mkdocs.yml", folder / "mkdocs.yml")
    pages.write(folder / "build" / "guides")
    return folder


def test_every_guide_and_every_command_has_its_place(site: Path) -> None:
    navigation = re.findall(r": ([\w-]+\.md)$", (site / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(navigation) == sorted(path.name for path in (site / "build/guides").glob("*.md"))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} < set(navigation)
    commands = (site / "build/guides/commands.md").read_text(encoding="utf-8")
    assert re.findall(r"^## thaw ([\w-]+)$", commands, re.MULTILINE) == list(cli.MODULES)
    assert "usage: thaw predict" in commands and "\x1b" not in commands


def test_on_the_site_a_guide_is_called_by_its_title_and_not_by_its_file(site: Path) -> None:
    text = "[docs/evaluation.md](docs/evaluation.md), [SECURITY.md](SECURITY.md), [see](docs/data.md#splits)"
    assert pages.on_the_site(text) == "[Evaluation](evaluation.md), [Security](security.md), [see](data.md#splits)"
    for page in (site / "build/guides").glob("*.md"):
        assert not re.search(r"\[[\w/-]+\.md\]\(", page.read_text(encoding="utf-8")), page.name


def test_the_first_page_says_which_version_the_pages_are_of(site: Path) -> None:
    about = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    first = (site / "build/guides/index.md").read_text(encoding="utf-8")
    assert first.startswith(f"# Thaw\n\n*These pages are of version {about['version']}.")
    assert first.count("These pages are of version") == 1


@needs_the_extra
def test_it_builds_strictly_and_asks_nobody_for_anything(site: Path) -> None:
    done = build(site)
    assert done.returncode == 0, done.stdout + done.stderr
    built = site / "build" / "site"
    for page in (site / "build/guides").glob("*.md"):
        text = (built / f"{page.stem}.html").read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|link)\b[^>]*?(?:src|href)=[\"']?(?:https?:)?//[^\"'>\s]+", text)
        assert not [each for each in loaded if 'rel="canonical"' not in each], page.name
    assert 'id="thaw.api.runs.fit"' in (built / "api.html").read_text(encoding="utf-8")
    assert list(built.rglob("search*"))


@needs_the_extra
@pytest.mark.parametrize("link", ["[x](nowhere.md)", "[x](data.md#nowhere)"])
def test_a_link_that_leads_nowhere_stops_it(site: Path, tmp_path: Path, link: str) -> None:
    shutil.copytree(site, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("site"))
    with (tmp_path / "build/guides/faults.md").open("a", encoding="utf-8") as page:
        page.write(f"\n{link}\n")
    assert build(tmp_path).returncode != 0
