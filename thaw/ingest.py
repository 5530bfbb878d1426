"""Where images come from: a folder per class, ready-made splits of such folders, or a table (``thaw.listing``).

Files are found here and judged by ``thaw.triage``.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from thaw import layout, listing
from thaw.content import unreadable
from thaw.findings import Finding, Unusable
from thaw.listing import Entry

LAYOUT = "expected one folder per class, or train/, val/ and test/ of such folders, or a .csv or .parquet file"
OTHER_SPLIT_NAMES = {"valid", "validation", "dev", "eval", "testing", "training"}
# What systems and tools leave behind. Like names that begin with a dot, these are not reported, only counted.
DROPPINGS = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "icon\r"}
# A file of DVC's cache, which checked-out files are links to when cache.type is symlink: md5, two digits apart.
DVC_OBJECT = re.compile(r"/[0-9a-f]{2}/[0-9a-f]{30}$")


@dataclass
class Found:
    """The files there are, in no order, and those that cannot be followed."""

    root: Path  # what their paths are relative to
    classes: list[str] = field(default_factory=list)  # sorted as text, so "10" goes before "2"
    entries: list[Entry] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    ignored: int = 0  # hidden files and what systems leave behind


def find(raw: str, nested: bool) -> Found:
    """The images that ``data.raw`` means.

    Args:
        raw: a folder or a table.
        nested: take folders in class folders as classes named ``a/b``. Without it, images in them are misplaced.

    Raises:
        ValueError: nothing is there, or it is not laid out as expected.
    """
    root = layout.images_root(raw)
    if layout.is_listing(raw):
        entries, findings = listing.read(Path(raw))
        classes = sorted({entry.label for entry in entries})
        if len(classes) < 2:
            raise ValueError(f"{raw}: expected at least 2 labels, received {len(classes)}; add the other classes")
        return Found(root, classes, entries, findings)
    if not root.is_dir():
        received = "another file" if root.exists() else "nothing there"
        raise ValueError(f"{root}: {LAYOUT}, received {received}; put the images there or set data.raw")
    files, folders, found = _walk(root)
    depth = _depth(root, {parts[0] for parts in folders})
    found.classes = _classes(root, depth, nested, folders, files)
    for path in files:
        name = printable(path)
        *above, _ = path.parts
        if name != path.as_posix():
            found.findings.append(Finding("name", name, "its name is not valid Unicode"))
        elif len(above) < depth:
            found.findings.append(Finding("misplaced", name, "lies outside the class folders"))
        elif len(above) > depth and not nested:
            found.findings.append(Finding("misplaced", name, "lies deeper than one folder per class"))
        else:
            found.entries.append(Entry(name, "/".join(above[depth - 1 :]), above[0] if depth == 2 else ""))
    return found


def below(root: Path) -> tuple[list[Path], list[Finding]]:
    """Return all files in a folder, sorted, as `prepare` sees it, and what cannot be followed there."""
    files, _, found = _walk(root)
    return sorted(root / name for name in files), found.findings


def _walk(root: Path) -> tuple[list[Path], list[tuple[str, ...]], Found]:
    """All files, and the parts of all folders, relative to ``root``; what cannot be followed is a finding."""
    files: list[Path] = []
    folders: list[tuple[str, ...]] = []
    found = Found(root)

    def visit(folder: Path, chain: list[Path]) -> None:
        for path in (root / folder).iterdir():
            name, is_link = folder / path.name, path.is_symlink()
            if path.name.startswith(".") or path.name.lower() in DROPPINGS:
                found.ignored += 1
                continue
            try:
                real = path.resolve(strict=True) if is_link else chain[-1] / path.name
                if is_link and not real.is_relative_to(chain[0]) and not DVC_OBJECT.search(real.as_posix()):
                    raise Unusable("link", "a link that leads out of the image folder")
                if real in chain:
                    raise Unusable("link", "a link to a folder that it lies in")
                if path.is_dir():
                    folders.append(name.parts)
                    visit(name, [*chain, real])
                else:
                    files.append(name)
            except Unusable as refused:
                found.findings.append(Finding(refused.kind, printable(name), refused.reason))
            except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
                kind, reason = ("link", "a broken link") if is_link else ("unreadable", unreadable(error))
                found.findings.append(Finding(kind, printable(name), reason))

    visit(Path(), [root.resolve()])
    return files, folders, found


def printable(name: Path) -> str:
    """The path as text that can be written as UTF-8, whatever bytes the name is made of."""
    return name.as_posix().encode("utf-8", "replace").decode()


def _depth(root: Path, tops: set[str]) -> int:
    """How many folders an image lies in at least: 1 for <class>/, 2 for <split>/<class>/."""
    if not tops or not {name.lower() for name in tops} <= OTHER_SPLIT_NAMES.union(layout.SPLITS):
        return 1
    wrong = sorted(tops.difference(layout.SPLITS))
    if wrong:
        raise ValueError(f"{root}: {LAYOUT}, received {wrong[0]}/; rename it to train/, val/ or test/")
    if "train" not in tops:
        raise ValueError(f"{root}: {LAYOUT}, received {', '.join(sorted(tops))} without train/; add train/")
    return 2


def _classes(root: Path, depth: int, nested: bool, folders: list[tuple[str, ...]], files: list[Path]) -> list[str]:
    """The labels; where folders are nested, of those that hold files or nothing at all."""
    if nested:
        inner = {parts[:-1] for parts in folders}
        holding = {path.parts[:-1] for path in files}
        chosen = [parts for parts in folders if len(parts) >= depth and (parts in holding or parts not in inner)]
    else:
        chosen = [parts for parts in folders if len(parts) == depth]
    classes = sorted({"/".join(parts[depth - 1 :]) for parts in chosen})
    if not classes:
        raise ValueError(
            f"{root}: {LAYOUT}, received {len(files)} files and no class folder; "
            "make a folder for each class and move its images there"
        )
    if len(classes) == 1:
        raise ValueError(f"{root}: expected at least 2 classes, received only {classes[0]}/; add the other classes")
    if depth == 2:
        trained = {"/".join(parts[1:]) for parts in chosen if parts[0] == "train"}
        strange = [name for name in classes if name not in trained]
        if strange:
            raise ValueError(
                f"{root}: expected every class in train/, received {strange[0]}/ in another split only; "
                f"add train/{strange[0]}/ or remove the class"
            )
    return classes
