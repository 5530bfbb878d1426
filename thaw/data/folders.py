"""Find the images: a folder per class, ready-made splits of such folders, or a table (``thaw.data.table``).

Files are found here and judged by ``thaw.data.validation``.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from thaw import console, paths
from thaw.data import cells, label_names, object_store, table
from thaw.data.issues import Finding
from thaw.data.packed import Rows
from thaw.data.table import Entry
from thaw.data.text_columns import Texts
from thaw.images.content import unreadable
from thaw.images.integrity import Unusable

LAYOUT = "expected one folder per class, or train/, val/ and test/ of such folders, or a .csv or .parquet file"
OTHER_SPLIT_NAMES = {"valid", "validation", "dev", "eval", "testing", "training"}
# What systems and tools leave behind. Like names that begin with a dot, these are not reported, only counted.
DROPPINGS = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "icon\r"}
# Hidden folders that may hold pictures, and are no classes.
HIDDEN = {".cache", ".git", ".dvc", ".ipynb_checkpoints", ".thumbnails", ".thumbs", ".trash", ".trashes"}
ARCHIVES = {".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zip"}
ENDINGS = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"}


@dataclass
class Found:
    """The files that were found, sorted by path unless a table lists them, and what cannot be followed."""

    root: Path  # what their paths are relative to
    classes: list[str] = field(default_factory=list)  # sorted as text, so "10" goes before "2"
    entries: Rows[Entry] = field(default_factory=lambda: Rows(Entry))
    findings: Rows[Finding] = field(default_factory=lambda: Rows(Finding))
    ignored: int = 0  # hidden files and what systems leave behind
    hidden: list[Path] = field(default_factory=list)  # the folders among these, relative to the root
    linked: list[str] = field(default_factory=list)  # folders that are links


def find(raw: str, nested: bool) -> Found:
    """Find the images that ``data.raw`` names.

    Args:
        raw: a folder or a table.
        nested: take folders in class folders as classes named ``a/b``. Without it, images in them are misplaced.

    Raises:
        ValueError: nothing is there, or it is not laid out as expected.
    """
    if paths.is_remote(raw):
        object_store.fetch(raw)
    root = paths.images_root(raw)
    if paths.is_listing(raw):
        entries, findings = table.read(paths.local(raw))
        # Also a class of which no file is there: data.policy.few says what is done about it.
        classes = sorted(table.labels(paths.local(raw)) if findings else {entry.label for entry in entries})
        if len(classes) < 2:
            raise ValueError(f"{raw}: expected at least 2 labels, received {len(classes)}; add the other classes")
        label_names.check(raw, classes)
        for name, meant in cells.misnamed(cells.heads(paths.local(raw))).items():
            console.warn(f"{raw}: the column {name} is taken for slices only; call it {meant} if it is that")
        return Found(root, classes, entries, findings)
    if not root.is_dir():
        received = "another file" if root.exists() else "nothing there"
        mended = remedy(root) or "; put the images there or set data.raw"
        raise ValueError(f"{root}: {LAYOUT}, received {received}{mended}")
    files, folders, found = _walk(root)
    depth = _depth(root, nested, folders, files)
    _check_hidden(found, depth, nested)
    folders += _not_followed(found, depth)
    found.classes = _classes(root, depth, nested, folders, files)
    label_names.check(raw, found.classes)
    if found.linked:
        console.warn(
            f"{root}: expected folders, received links to folders ({len(found.linked):,}, first {min(found.linked)}); "
            "they are followed, but DVC does not look there: run `dvc repro --force prepare` when they change"
        )
    for path in files:
        name = printable(path)
        *above, _ = path.split("/")
        if name != path:
            found.findings.append(Finding("name", name, "its name is not valid Unicode"))
        elif len(above) < depth:
            found.findings.append(Finding("misplaced", name, "lies outside the class folders"))
        elif len(above) > depth and not nested:
            found.findings.append(Finding("misplaced", name, "lies deeper than one folder per class"))
        else:
            found.entries.append(Entry(name, "/".join(above[depth - 1 :]), above[0] if depth == 2 else ""))
    return found


def below(root: Path) -> tuple[list[Path], Rows[Finding]]:
    """Return all files in a folder, sorted, as `prepare` sees it, and what cannot be followed there."""
    files, _, found = _walk(root)
    return sorted(root / name for name in files), found.findings


def _walk(root: Path) -> tuple[Texts, list[tuple[str, ...]], Found]:
    """Return all files, sorted, and the parts of all folders, relative to ``root``; what cannot be followed is a
    finding.
    """
    files = Texts()
    folders: list[tuple[str, ...]] = []
    found = Found(root)

    def visit(folder: str, chain: list[Path]) -> None:
        for key, is_link in _sorted_names(root / folder):
            name, is_dir = f"{folder}{key.removesuffix('/')}", key.endswith("/")
            path = root / name
            if path.name.startswith(".") or path.name.lower() in DROPPINGS:
                found.ignored += 1
                found.hidden += [Path(name)] if is_dir else []
                continue
            try:
                if is_link or is_dir:
                    real = path.resolve(strict=True) if is_link else chain[-1] / path.name
                    if real in chain:
                        raise Unusable("link", "a link to a folder that it lies in")
                if is_dir:
                    folders.append(Path(name).parts)
                    found.linked += [printable(name)] if is_link else []
                    visit(f"{name}/", [*chain, real])
                else:
                    files.append(name)
            except Unusable as refused:
                found.findings.append(Finding(refused.kind, printable(name), refused.reason))
            except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
                kind, reason = ("link", "a broken link") if is_link else ("unreadable", unreadable(error))
                found.findings.append(Finding(kind, printable(name), reason))

    visit("", [root.resolve()])
    return files, folders, found


def _sorted_names(folder: Path) -> list[tuple[str, bool]]:
    """Return what lies in a folder, of folders with a slash, and whether each is a link.

    In this order of names a walk comes upon files in the order of their paths.
    """
    with os.scandir(folder) as there:
        return sorted((f"{each.name}/" if _is_folder(each) else each.name, each.is_symlink()) for each in there)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle
        return False


def printable(name: Path | str) -> str:
    """Return the path as text that can be written as UTF-8, whatever bytes the name is made of."""
    return Path(name).as_posix().encode("utf-8", "replace").decode()


def _depth(root: Path, nested: bool, folders: list[tuple[str, ...]], files: Sequence[str]) -> int:
    """Return how many folders an image lies in at least: 1 for <class>/, 2 for <split>/<class>/."""
    tops = {parts[0] for parts in folders}
    named = {name for name in tops if name.lower() in OTHER_SPLIT_NAMES.union(paths.SPLITS)}
    if others := sorted(tops - named):
        # A class may be called train. A folder of that name with folders of images and none of its own is a split.
        shallow = (path for path in files if path.count("/") == 1)
        holding = {path.partition("/")[0] for path in shallow if Path(path).suffix.lower() in ENDINGS}
        splits = (named & {parts[0] for parts in folders if len(parts) > 1}) - holding
        if {"train", "training"} & {name.lower() for name in splits} and (len(splits) > 1 or not nested):
            raise ValueError(
                f"{root}: {LAYOUT}, received {printable(others[0])}/ beside {', '.join(sorted(splits))}; "
                "move what is no split elsewhere"
            )
    if others or not named:
        return 1
    wrong = sorted(tops.difference(paths.SPLITS))
    if wrong:
        raise ValueError(f"{root}: {LAYOUT}, received {wrong[0]}/; rename it to train/, val/ or test/")
    if "train" not in tops:
        raise ValueError(f"{root}: {LAYOUT}, received {', '.join(sorted(tops))} without train/; add train/")
    return 2


def remedy(path: Path) -> str:
    """Return what to do with a file that is neither a folder nor a table, for the end of a message; mostly nothing."""
    ending = path.suffix.lower() if path.is_file() else ""
    if ending in ARCHIVES:
        return "; unpack it"
    return "; rename it to end in .csv" if ending in (".tsv", ".tab") else ""


def _check_hidden(found: Found, depth: int, nested: bool) -> None:
    """Stop where a class or a split would be passed over because its name begins with a dot."""
    for path in sorted(found.hidden):
        level, name = len(path.parts), path.name.lower()
        is_split = level < depth and name.lstrip(".") in OTHER_SPLIT_NAMES.union(paths.SPLITS)
        if (
            name in HIDDEN
            or not name.startswith(".")
            or not (is_split or level == depth or (nested and level > depth))
        ):
            continue
        try:
            inside = [
                each.name for each in (found.root / path).iterdir() if is_split or each.suffix.lower() in ENDINGS
            ]
        except OSError:  # nobody can look into it
            continue
        if inside:
            raise ValueError(
                f"{printable(found.root / path)}: expected names of classes and splits that do not begin with a dot, "
                f"received a hidden folder that holds {printable(Path(min(inside)))}; rename it, or move it elsewhere"
            )


def _not_followed(found: Found, depth: int) -> list[tuple[str, ...]]:
    """Return the classes whose folders could not be entered: they stay classes, without images, so that they are
    missed.

    Raises:
        ValueError: a split could not be entered, in the place of which another would be drawn.
    """
    classes = []
    for finding in found.findings:
        path = Path(finding.path)
        if len(path.parts) < depth:
            raise ValueError(f"{found.root / path}: {LAYOUT}, received {finding.reason}; {finding.remedy}")
        if len(path.parts) == depth and path.suffix.lower() not in ENDINGS:
            classes.append(path.parts)
    return classes


def _classes(root: Path, depth: int, nested: bool, folders: list[tuple[str, ...]], files: Sequence[str]) -> list[str]:
    """Return the labels; where folders are nested, of those that hold files or nothing at all."""
    if nested:
        inner = {parts[:-1] for parts in folders}
        holding = {tuple(path.split("/")[:-1]) for path in files}
        chosen = [parts for parts in folders if len(parts) >= depth and (parts in holding or parts not in inner)]
    else:
        chosen = [parts for parts in folders if len(parts) == depth]
    # As findings have them: a name that is not valid Unicode cannot be written down.
    classes = sorted({printable("/".join(parts[depth - 1 :])) for parts in chosen})
    if not classes:
        raise ValueError(
            f"{root}: {LAYOUT}, received {len(files)} files and no class folder; "
            "make a folder for each class and move its images there"
        )
    if len(classes) == 1:
        (only,) = classes
        below = sorted({parts[1] for parts in folders if depth == 1 and len(parts) > 1 and parts[0] == only})
        remedy = f"if {below[0]}/ and {below[1]}/ in it hold the images, name {root / only}" if len(below) > 1 else ""
        raise ValueError(
            f"{root}: expected at least 2 classes, received only {only}/; {remedy or 'add the other classes'}"
        )
    if depth == 2:
        trained = {printable("/".join(parts[1:])) for parts in chosen if parts[0] == "train"}
        strange = [name for name in classes if name not in trained]
        if strange:
            raise ValueError(
                f"{root}: expected every class in train/, received {strange[0]}/ in another split only; "
                f"add train/{strange[0]}/ or remove the class"
            )
    return classes
