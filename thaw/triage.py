"""Every file of the image folder read once: what can be trained on, and what cannot, why, and what to do about it.

Files are opened for reading only. All that is accepted is decoded by training (``thaw.formats``), so that no run stops
at a bad file hours later.
"""

import hashlib
import os
import re
import stat
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from thaw import formats
from thaw.formats import Unusable
from thaw.layout import SPLITS

LAYOUT = "expected one folder per class, or train/, val/ and test/ of such folders"
OTHER_SPLIT_NAMES = {"valid", "validation", "dev", "eval", "testing", "training"}
# What systems and tools leave behind. Like names that begin with a dot, these are not reported, only counted.
DROPPINGS = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "icon\r"}
# A file is held in memory while it is checked; nothing that large is a photograph.
MAX_BYTES = 512 * 2**20
# A file of DVC's cache, which checked-out files are links to when cache.type is symlink: md5, two digits apart.
DVC_OBJECT = re.compile(r"/[0-9a-f]{2}/[0-9a-f]{30}$")

FLATTEN = "move it into its class folder if it is an image"
LINK = "put a copy in place of the link"
RETRY = "see to it that it can be read, or remove it"

Track = Callable[[Iterable["Sample | Refusal"], str, int], Iterator["Sample | Refusal"]]


@dataclass
class Sample:
    """A usable image."""

    path: str  # POSIX, relative to the image folder
    sha256: str  # of the file's bytes, hex
    label: str  # name of the class folder
    split: str  # train, val or test as the folders say; empty if it is to be drawn
    width: int  # pixels, after EXIF orientation
    height: int  # pixels, after EXIF orientation
    misnamed: bool = False  # the name's ending belongs to another format; harmless


@dataclass
class Refusal:
    """A file that is left out."""

    path: str
    reason: str
    remedy: str


@dataclass
class Findings:
    """All that is in the image folder; lists are sorted by path."""

    classes: list[str]  # sorted as text, so "10" goes before "2"
    samples: list[Sample] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    ignored: int = 0  # hidden files and what systems leave behind


def read(root: Path, track: Track = lambda found, _description, _total: iter(found)) -> Findings:
    """Decode and hash every file, several at a time.

    Args:
        root: folder with one folder per class, or with train/ and perhaps val/ and test/ of such folders.
        track: wraps the iterator over results, to show progress: ``(results, description, total)``.

    Raises:
        ValueError: the folder is missing, or is not laid out as above.
    """
    if not root.is_dir():
        raise ValueError(f"{root}: {LAYOUT}, received no such folder; put the images there or set data.raw")
    files, folders, findings = _walk(root)
    depth = _depth(root, {parts[0] for parts in folders})
    findings.classes = _classes(root, depth, folders, len(files))
    entries = []
    for path in files:
        *above, _ = path.parts
        if len(above) < depth:
            findings.refusals.append(Refusal(_printable(path), "lies outside the class folders", FLATTEN))
        elif len(above) > depth:
            findings.refusals.append(Refusal(_printable(path), "lies deeper than one folder per class", FLATTEN))
        else:
            entries.append((path, above[-1], above[0] if depth == 2 else ""))
    Image.init()  # Pillow's plugins are loaded once, before threads would each try
    pool = ThreadPoolExecutor(os.cpu_count())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow warns of is either refused here or harmless
            for found in track(pool.map(lambda entry: _judge(root, *entry), entries), "images", len(entries)):
                if isinstance(found, Sample):
                    findings.samples.append(found)
                else:
                    findings.refusals.append(found)
    finally:
        pool.shutdown(cancel_futures=True)
    findings.samples.sort(key=lambda sample: sample.path)
    findings.refusals.sort(key=lambda refusal: refusal.path)
    return findings


def check(findings: Findings) -> None:
    """Require a usable image in every class.

    Raises:
        ValueError: all files of a class were left out, or it has none.
    """
    alive = {sample.label for sample in findings.samples}
    lost = [name for name in findings.classes if name not in alive]
    if lost:
        refused = [refusal for refusal in findings.refusals if lost[0] in refusal.path.split("/")]
        first = f", {len(refused)} were left out (first {refused[0].path}: {refused[0].reason})" if refused else ""
        more = f"; the same holds for {', '.join(lost[1:6])}" if lost[1:] else ""
        raise ValueError(
            f"class {lost[0]}: expected a usable image, received none{first}; add images or remove the folder{more}"
        )


def _walk(root: Path) -> tuple[list[Path], list[tuple[str, ...]], Findings]:
    """All files, and the parts of all folders, relative to ``root``; what cannot be followed is refused."""
    files: list[Path] = []
    folders: list[tuple[str, ...]] = []
    findings = Findings(classes=[])

    def visit(folder: Path, chain: list[Path]) -> None:
        for path in (root / folder).iterdir():
            name, is_link = folder / path.name, path.is_symlink()
            if path.name.startswith(".") or path.name.lower() in DROPPINGS:
                findings.ignored += 1
                continue
            try:
                real = path.resolve(strict=True) if is_link else chain[-1] / path.name
                if is_link and not real.is_relative_to(chain[0]) and not DVC_OBJECT.search(real.as_posix()):
                    raise Unusable("a link that leads out of the image folder", LINK)
                if real in chain:
                    raise Unusable("a link to a folder that it lies in", LINK)
                if path.is_dir():
                    folders.append(name.parts)
                    visit(name, [*chain, real])
                else:
                    files.append(name)
            except Unusable as refused:
                findings.refusals.append(Refusal(_printable(name), *refused.args))
            except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
                reason = ("a broken link", LINK) if is_link else (_unreadable(error), RETRY)
                findings.refusals.append(Refusal(_printable(name), *reason))

    visit(Path(), [root.resolve()])
    return files, folders, findings


def _unreadable(error: Exception) -> str:
    return "no permission to read it" if isinstance(error, PermissionError) else f"cannot be read: {error}"


def _depth(root: Path, tops: set[str]) -> int:
    """How many folders an image lies in: 1 for <class>/, 2 for <split>/<class>/."""
    if not tops or not {name.lower() for name in tops} <= OTHER_SPLIT_NAMES.union(SPLITS):
        return 1
    wrong = sorted(tops.difference(SPLITS))
    if wrong:
        raise ValueError(f"{root}: {LAYOUT}, received {wrong[0]}/; rename it to train/, val/ or test/")
    if "train" not in tops:
        raise ValueError(f"{root}: {LAYOUT}, received {', '.join(sorted(tops))} without train/; add train/")
    return 2


def _classes(root: Path, depth: int, folders: list[tuple[str, ...]], files: int) -> list[str]:
    classes = sorted({parts[-1] for parts in folders if len(parts) == depth})
    if not classes:
        raise ValueError(
            f"{root}: {LAYOUT}, received {files} files and no class folder; "
            "make a folder for each class and move its images there"
        )
    if len(classes) == 1:
        raise ValueError(f"{root}: expected at least 2 classes, received only {classes[0]}/; add the other classes")
    if depth == 2:
        trained = {parts[-1] for parts in folders if len(parts) == 2 and parts[0] == "train"}
        strange = [name for name in classes if name not in trained]
        if strange:
            raise ValueError(
                f"{root}: expected every class in train/, received {strange[0]}/ in another split only; "
                f"add train/{strange[0]}/ or remove the class"
            )
    return classes


def _judge(root: Path, name: Path, label: str, split: str) -> Sample | Refusal:
    try:
        if _printable(name) != name.as_posix():
            raise Unusable("its name is not valid Unicode", "rename it")
        data = _bytes(root / name)
        kind, width, height = formats.inspect(data)
    except Unusable as refused:
        return Refusal(_printable(name), *refused.args)
    expected = formats.KINDS.get(Image.registered_extensions().get(name.suffix.lower(), ""), kind)
    digest = hashlib.sha256(data).hexdigest()
    return Sample(name.as_posix(), digest, label, split, width, height, misnamed=expected != kind)


def _bytes(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise Unusable("not a file", "remove it")
        if status.st_size > MAX_BYTES:
            raise Unusable(f"larger than {MAX_BYTES // 2**20} MiB", formats.REMOVE)
        data = path.read_bytes()
    except OSError as error:
        raise Unusable(_unreadable(error), RETRY) from None
    if not data:
        raise Unusable("an empty file", formats.REPLACE)
    return data


def _printable(name: Path) -> str:
    """The path as text that can be written as UTF-8, whatever bytes the name is made of."""
    return name.as_posix().encode("utf-8", "replace").decode()
