"""Put the pages of the site together: ``python -m docs.pages``, which ``make site`` runs first.

They are the guides, the files at the root, and the reference of the command ``thaw`` and of the Python API.
The guides themselves stay as they are, so that their links work on a forge too.
"""

import argparse
import contextlib
import io
import os
import re
import shutil
from pathlib import Path
from unittest import mock

import thaw
from thaw.commands import cli

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "build" / "guides"  # docs_dir of mkdocs.yml
# Files of the root, and the pages that they are on the site.
AT_ROOT = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
# Where a link leads that is to no page.
ELSEWHERE = {"LICENSE": "https://www.apache.org/licenses/LICENSE-2.0"}
API = """\
# Python API

::: thaw.api.runs.fit

::: thaw.api.runs.Run

::: thaw.api.runs.Report

::: thaw.api.runs.load

::: thaw.serving.predictor.Predictor

::: thaw.api.estimator.ThawClassifier
"""
LINK = re.compile(r"\]\((?:\.\./)?([\w./-]+)(#[\w-]+)?\)")
NAMED = re.compile(r"\[((?:docs/)?[\w-]+\.md)\](?=\((?:\.\./)?\1[)#])")  # a link that is called as its file is
WIDTH = "88"  # characters of a line of help, as many as a page is wide


def write(pages: Path = PAGES) -> None:
    """Write all pages into a folder, which is made anew."""
    shutil.rmtree(pages, ignore_errors=True)
    pages.mkdir(parents=True)
    for path in sorted((ROOT / "docs").iterdir()):
        if path.suffix == ".md":
            (pages / path.name).write_text(on_the_site(path.read_text(encoding="utf-8")), encoding="utf-8")
        elif path.suffix == ".png":
            shutil.copyfile(path, pages / path.name)
    for name, page in AT_ROOT.items():
        text = on_the_site((ROOT / name).read_text(encoding="utf-8"))
        (pages / page).write_text(of_version(text) if page == "index.md" else text, encoding="utf-8")
    (pages / "commands.md").write_text(commands(), encoding="utf-8")
    (pages / "api.md").write_text(API, encoding="utf-8")


def of_version(text: str) -> str:
    """Return a page that says below its title which version all pages are of."""
    title, _, rest = text.partition("\n")
    return f"{title}\n\n*These pages are of version {thaw.__version__}. [What has changed](changelog.md)*\n{rest}"


def on_the_site(text: str) -> str:
    """Return a text with its links as they are where all pages lie in one folder."""

    def led(found: re.Match[str]) -> str:
        name = found[1].removeprefix("docs/")
        return f"]({AT_ROOT.get(name) or ELSEWHERE.get(name) or name}{found[2] or ''})"

    return LINK.sub(led, NAMED.sub(lambda found: f"[{_title(found[1])}]", text))


def _title(name: str) -> str:
    """Return the head of a document; guides name each other without their folder."""
    path = ROOT / name if (ROOT / name).is_file() else ROOT / "docs" / name
    return path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ")


def commands() -> str:
    """Return the reference of the command ``thaw``: what each subcommand's ``--help`` prints."""
    reader = cli.parser()
    text = ["# The command `thaw`", "", f"```text\n{_help(reader)}```", ""]
    for name in cli.MODULES:
        text += [f"## thaw {name}", "", f"```text\n{_help(reader, name)}```", ""]
    return "\n".join(text)


def _help(reader: argparse.ArgumentParser, *words: str) -> str:
    """Return what ``--help`` prints, however wide the terminal is."""
    held = io.StringIO()
    with (
        mock.patch.dict(os.environ, COLUMNS=WIDTH),
        contextlib.redirect_stdout(held),
        contextlib.suppress(SystemExit),
    ):
        reader.parse_args([*words, "--help"])
    return held.getvalue()


if __name__ == "__main__":
    write()
