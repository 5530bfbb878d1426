"""Every file of the image folder read once: what can be trained on, and what cannot, why, and what to do about it.

Files are opened for reading only. All that is accepted here is decoded by TensorFlow 2.21's ``tf.io.decode_image``
with ``channels=3, expand_animations=False``, so that no training run stops at a bad file hours later. Pillow alone is
laxer (it opens a PNG whose end is missing, and any BMP); ``_flaw`` holds what must be looked at besides.
"""

import hashlib
import os
import re
import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from thaw.layout import SPLITS

# By Pillow's names; MPO is a JPEG with more pictures behind the first.
FORMATS = {name: name for name in ("JPEG", "PNG", "GIF", "BMP", "WEBP")} | {"MPO": "JPEG"}
LAYOUT = "expected one folder per class, or train/, val/ and test/ of such folders"
OTHER_SPLIT_NAMES = {"valid", "validation", "dev", "eval", "testing", "training"}
# What systems and tools leave behind. Like names that begin with a dot, these are not reported, only counted.
DROPPINGS = {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "icon\r"}
# Pillow's own limit against decompression bombs: 256 MiB of RGB.
MAX_PIXELS = 89_478_485
# A file is held in memory while it is checked; nothing that large is a photograph.
MAX_BYTES = 512 * 2**20
# A file of DVC's cache, which checked-out files are links to when cache.type is symlink: md5, two digits apart.
DVC_OBJECT = re.compile(r"/[0-9a-f]{2}/[0-9a-f]{30}$")
ORIENTATION = 0x0112  # EXIF tag; 5 to 8 lie on their side
RARE_JPEG = {0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)}  # marks of frames; C0 to C2 are common
BITFIELDS = struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)  # the one order of colours that TensorFlow knows

CONVERT = "save it again as PNG or JPEG"
REPLACE = "replace it with a whole copy, or remove it"
REMOVE = "remove it; if it is a photograph (HEIC, raw), save it again as PNG or JPEG"
FLATTEN = "move it into its class folder if it is an image"
LINK = "put a copy in place of the link"
RETRY = "see to it that it can be read, or remove it"

Track = Callable[[Iterable["Sample | Refusal"], str, int], Iterator["Sample | Refusal"]]


class _Unusable(Exception):  # noqa: N818 -- not an error of the program
    """Carries the reason and the remedy of a refusal."""


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
                    raise _Unusable("a link that leads out of the image folder", LINK)
                if real in chain:
                    raise _Unusable("a link to a folder that it lies in", LINK)
                if path.is_dir():
                    folders.append(name.parts)
                    visit(name, [*chain, real])
                else:
                    files.append(name)
            except _Unusable as refused:
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
            raise _Unusable("its name is not valid Unicode", "rename it")
        data = _bytes(root / name)
        kind, width, height = _decode(data)
    except _Unusable as refused:
        return Refusal(_printable(name), *refused.args)
    expected = FORMATS.get(Image.registered_extensions().get(name.suffix.lower(), ""), kind)
    digest = hashlib.sha256(data).hexdigest()
    return Sample(name.as_posix(), digest, label, split, width, height, misnamed=expected != kind)


def _bytes(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _Unusable("not a file", "remove it")
        if status.st_size > MAX_BYTES:
            raise _Unusable(f"larger than {MAX_BYTES // 2**20} MiB", REMOVE)
        data = path.read_bytes()
    except OSError as error:
        raise _Unusable(_unreadable(error), RETRY) from None
    if not data:
        raise _Unusable("an empty file", REPLACE)
    return data


def _decode(data: bytes) -> tuple[str, int, int]:
    """The format, and width and height in pixels, of an image whose every pixel could be decoded."""
    try:
        with Image.open(BytesIO(data)) as image:
            kind = FORMATS.get(image.format or "")
            if kind is None:
                raise _Unusable(f"{image.format} is a format that training does not decode", CONVERT)
            if image.width * image.height > MAX_PIXELS:
                raise Image.DecompressionBombError
            flaw = _flaw(kind, image, data)
            if flaw:
                raise _Unusable(flaw, REPLACE if flaw.startswith("a damaged image") else CONVERT)
            image.load()
            width, height = image.size
            return (kind, height, width) if kind == "JPEG" and _on_its_side(image) else (kind, width, height)
    except _Unusable:
        raise
    except UnidentifiedImageError:
        raise _Unusable("not an image", REMOVE) from None
    except Image.DecompressionBombError:
        raise _Unusable(f"more than {MAX_PIXELS:,} pixels", "make it smaller") from None
    except (IndexError, struct.error):
        raise _Unusable("a damaged image: it ends early", REPLACE) from None
    except Exception as error:  # Pillow raises nearly anything on broken files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise _Unusable(f"a damaged image: {reason}", REPLACE) from None


def _on_its_side(image: Image.Image) -> bool:
    """Whether EXIF says so. ``Image.getexif`` would also look into XMP, which ``thaw.preprocessing`` does not."""
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        return exif.get(ORIENTATION) in range(5, 9)
    except Exception:  # a broken EXIF block does not make a broken image
        return False


def _flaw(kind: str, image: Image.Image, data: bytes) -> str:
    """What TensorFlow would stop at, or misread, and Pillow would not; empty if nothing."""
    if kind == "WEBP" and getattr(image, "is_animated", False):
        return "an animated WebP, which training does not decode"
    if kind == "WEBP" and image.mode != "RGB":
        return "a WebP with transparency, which training does not decode"
    if kind == "BMP":
        return _bmp_flaw(image, data)
    if kind == "JPEG":
        return _jpeg_flaw(data)
    if (kind == "PNG" and not _png_is_whole(data)) or (kind == "GIF" and not _gif_is_whole(data)):
        return f"a damaged image: the {kind} ends early or fails its checksum"
    return ""


def _jpeg_flaw(data: bytes) -> str:
    """Look for the end mark of the first picture; thumbnails before it and pictures after it don't count."""
    place = 2
    while data[place : place + 2] != b"\xff\xda":  # there the picture's bytes begin, in which no mark occurs by chance
        mark = data[place + 1]
        if data[place] != 0xFF or mark == 0xFF:  # filling
            place += 1
        elif mark in RARE_JPEG:
            return "a JPEG in a rare coding (lossless, hierarchical or arithmetic), which training does not decode"
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return "" if data.find(b"\xff\xd9", place) > 0 else "a damaged image: the JPEG ends early"


def _gif_is_whole(data: bytes) -> bool:
    """Whether the first frame is there up to its end mark; the others are not used."""

    def table(flags: int) -> int:
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    def after_blocks(place: int) -> int:
        while data[place]:
            place += data[place] + 1
        return place + 1

    place = 13 + table(data[10])
    while data[place] == 0x21:  # an extension
        place = after_blocks(place + 2)
    return data[place] == 0x2C and after_blocks(place + 11 + table(data[place + 9])) <= len(data)


def _png_is_whole(data: bytes) -> bool:
    """Whether every chunk up to the end mark is there and has the right CRC."""
    place = 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        end = place + 8 + length
        if data[end : end + 4] != zlib.crc32(data[place + 4 : end]).to_bytes(4, "big"):
            return False
        if data[place + 4 : place + 8] == b"IEND":
            return True
        place = end + 4
    return False


def _bmp_flaw(image: Image.Image, data: bytes) -> str:
    """TensorFlow reads a BMP by its plainest form and takes palette indices for grey values."""
    start, header = struct.unpack_from("<II", data, 10)
    if header < 40:
        return "an OS/2 BMP, which training does not decode"
    bits, compression = struct.unpack_from("<HI", data, 28)
    if bits not in (8, 24, 32) or (bits == 8 and image.mode != "L"):
        return f"a BMP with {'a palette' if bits <= 8 else f'{bits} bits a pixel'}, which training does not decode"
    if compression != 0 and not (bits == 32 and compression == 3 and data[54:66] == BITFIELDS):
        return "a compressed BMP, which training does not decode"
    if len(data) - start != (image.width * bits + 31) // 32 * 4 * image.height:
        return "a BMP with bytes missing or left over, which training does not decode"
    return ""


def _printable(name: Path) -> str:
    """The path as text that can be written as UTF-8, whatever bytes the name is made of."""
    return name.as_posix().encode("utf-8", "replace").decode()
