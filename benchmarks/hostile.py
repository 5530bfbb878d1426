"""Check what `prepare` makes of bad and odd files: ``python -m benchmarks.hostile``.

Writes a folder of good images with one file of each kind of trouble among them, runs the stage on it, and prints what
became of each. It fails if the stage does, if a file is passed over in silence, or if a byte of the folder changed.
"""

import hashlib
import io
import os
import shutil
import stat
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from benchmarks import scratch
from thaw import paths, records

GOOD = 200  # images without fault in each of the two classes
WIDTH, HEIGHT = 90, 60
OVERRIDES = ("data.policy.few=quarantine", "data.max_bad_share=0.2")


def picture(seed: int, mode: str = "RGB") -> Image.Image:
    """Return a blurred patch of noise, like no other."""
    noise = np.random.default_rng(seed).integers(0, 256, (HEIGHT // 6, WIDTH // 6, 3), dtype=np.uint8)
    large = Image.fromarray(noise).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    return large.filter(ImageFilter.SMOOTH).convert(mode)


def encoded(kind: str, image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def see_through(seed: int) -> Image.Image:
    image = picture(seed, "RGBA")
    image.putalpha(picture(seed + 1000, "L"))
    return image


def sixteen_bits(seed: int) -> Image.Image:
    return Image.fromarray(np.asarray(picture(seed, "L")).astype(np.uint16) * 257)


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def flipped(data: bytes, place: int) -> bytes:
    """Turn over the bits of a byte, as a bad disk does it."""
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def bomb() -> bytes:
    """Return a PNG of a few kilobytes that is 10 GB of pixels."""
    side = 60_000

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")


def without_adobe(data: bytes) -> bytes:
    """Return a CMYK JPEG without the mark by which readers know that its colours are stored inverted."""
    place = data.index(b"\xff\xee")
    return data[:place] + data[place + 2 + int.from_bytes(data[place + 2 : place + 4], "big") :]


def palette(seed: int) -> Image.Image:
    return picture(seed).quantize(64)


# Path → content, and what is to become of it: action and kinds, or "used" or "ignored".
FILES: dict[str, tuple[bytes, str]] = {
    "cat/zero bytes.jpg": (b"", "quarantined: empty"),
    "cat/half.jpg": (encoded("JPEG", picture(1))[:900], "quarantined: truncated"),
    "cat/half.png": (encoded("PNG", picture(2))[:3000], "quarantined: truncated"),
    "cat/without its last byte.png": (encoded("PNG", picture(3))[:-1], "quarantined: truncated"),
    "cat/half.gif": (encoded("GIF", picture(4))[:2000], "quarantined: truncated"),
    "cat/half.webp": (encoded("WEBP", picture(5))[:300], "quarantined: truncated"),
    "cat/half.bmp": (encoded("BMP", picture(6))[:5000], "quarantined: truncated"),
    "cat/half.tif": (encoded("TIFF", picture(7))[:5000], "quarantined: truncated"),
    "cat/head only.jpg": (encoded("JPEG", picture(8))[:4], "quarantined: truncated"),
    "cat/bad disk.png": (flipped(encoded("PNG", picture(9)), 500), "quarantined: damaged"),
    "cat/text.jpg": (b"This is no picture.\n", "quarantined: not_an_image"),
    "cat/error page.jpg": (b"<html><body>404 Not Found</body></html>", "quarantined: not_an_image"),
    "cat/zeros.png": (bytes(5000), "quarantined: not_an_image"),
    "cat/phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500), "quarantined: not_an_image"),
    "cat/drawing.svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "quarantined: not_an_image"),
    "cat/icon.ico": (encoded("ICO", picture(10)), "quarantined: unsupported"),
    "cat/plain.ppm": (encoded("PPM", picture(11)), "quarantined: unsupported"),
    "cat/floats.tif": (encoded("TIFF", picture(12, "F")), "quarantined: unsupported"),
    "cat/lossless.jpg": (
        encoded("JPEG", picture(13)).replace(b"\xff\xc0", b"\xff\xc3", 1),
        "quarantined: unsupported",
    ),
    "cat/bomb.png": (bomb(), "quarantined: too_large"),
    "cat/pixel.png": (encoded("PNG", Image.new("RGB", (1, 1))), "quarantined: small"),
    "cat/thread.png": (encoded("PNG", picture(14).crop((0, 0, 80, 3))), "quarantined: small"),
    "cat/moving.gif": (
        encoded("GIF", picture(15), save_all=True, append_images=[picture(16)]),
        "quarantined: animated",
    ),
    "cat/moving.png": (
        encoded("PNG", picture(17), save_all=True, append_images=[picture(18)]),
        "quarantined: animated",
    ),
    "cat/moving.webp": (
        encoded("WEBP", picture(19), save_all=True, append_images=[picture(20)]),
        "quarantined: animated",
    ),
    "cat/pages.tiff": (
        encoded("TIFF", picture(21), save_all=True, append_images=[picture(22)]),
        "quarantined: animated",
    ),
    "dog/still.gif": (encoded("GIF", picture(30)), "used"),
    "dog/two in one.jpg": (encoded("MPO", picture(31), save_all=True, append_images=[picture(32)]), "used"),
    "dog/progressive.jpg": (encoded("JPEG", picture(33), progressive=True), "used"),
    "dog/followed.jpg": (encoded("JPEG", picture(34)) + b"left over", "used"),
    "dog/grey.jpg": (encoded("JPEG", picture(35, "L")), "used"),
    "dog/SHOUTING.JPG": (encoded("JPEG", picture(36)), "used"),
    "dog/no ending": (encoded("PNG", picture(37)), "used"),
    "dog/with spaces, and a comma.jpg": (encoded("JPEG", picture(38)), "used"),
    'dog/a "quoted" name.png': (encoded("PNG", picture(39)), "used"),
    "dog/über 日本 🐕.png": (encoded("PNG", picture(40)), "used"),
    f"dog/{'long' * 50}.png": (encoded("PNG", picture(41)), "used"),
    "dog/jpeg by its bytes.png": (encoded("JPEG", picture(42)), "kept: misnamed"),
    "dog/print.jpg": (encoded("JPEG", picture(43, "CMYK")), "kept: cmyk"),
    "dog/print without mark.jpg": (without_adobe(encoded("JPEG", picture(44, "CMYK"))), "kept: cmyk"),
    "dog/deep.png": (encoded("PNG", sixteen_bits(45)), "kept: deep"),
    "dog/palette.png": (encoded("PNG", palette(46)), "kept: palette"),
    "dog/glass.png": (encoded("PNG", see_through(47)), "kept: alpha"),
    "dog/palette with hole.png": (encoded("PNG", palette(48), transparency=3), "kept: alpha, palette"),
    "dog/on its side.jpg": (encoded("JPEG", picture(49), exif=turned(6)), "kept: rotated"),
    "dog/on its side.png": (encoded("PNG", picture(50), exif=turned(8)), "converted: converted, rotated"),
    "dog/glass.webp": (encoded("WEBP", see_through(51)), "converted: alpha, converted"),
    "dog/hole.gif": (encoded("GIF", palette(52), transparency=3), "converted: alpha, converted"),
    "dog/palette.bmp": (encoded("BMP", palette(53)), "converted: converted, palette"),
    "dog/scan.tif": (encoded("TIFF", picture(54), compression="tiff_lzw"), "converted: converted"),
    "dog/deep.tiff": (encoded("TIFF", sixteen_bits(55)), "converted: converted, deep"),
    "dog/print.tif": (encoded("TIFF", picture(56, "CMYK")), "converted: cmyk, converted"),
    "loose.png": (encoded("PNG", picture(60)), "quarantined: misplaced"),
    "cat/old/deeper.png": (encoded("PNG", picture(61)), "quarantined: misplaced"),
    "cat/.hidden.png": (encoded("PNG", picture(62)), "ignored"),
    "cat/Thumbs.db": (b"\xd0\xcf\x11\xe0", "ignored"),
    "cow/only one.png": (encoded("PNG", picture(63)), "class quarantined: few"),
}
# Links: path → target, seen from the link's folder.
LINKS = {
    "dog/link inside.jpg": ("../cat/good 000.jpg", "used"),
    "cat/link to nothing.png": ("nowhere.png", "quarantined: link"),
    "cat/link to itself.png": ("link to itself.png", "quarantined: link"),
    "cat/link upwards": ("..", "quarantined: link"),
    "cat/link out.png": ("../../outside/secret.png", "used"),
}


def make(root: Path) -> dict[str, str]:
    """Write the folder, and return what is to become of each odd file, by path."""
    outside = root.parent / "outside"
    outside.mkdir(parents=True)
    (outside / "secret.png").write_bytes(encoded("PNG", picture(70)))
    for label, first in (("cat", 10_000), ("dog", 20_000)):
        (root / label).mkdir(parents=True)
        for number in range(GOOD):
            (root / label / f"good {number:03}.jpg").write_bytes(encoded("JPEG", picture(first + number)))
    expected = {path: end for path, (_, end) in FILES.items()}
    for path, (data, _) in FILES.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_bytes(data)
    for path, (target, end) in LINKS.items():
        (root / path).symlink_to(target)
        expected[path] = end
    if hasattr(os, "mkfifo"):
        os.mkfifo(root / "cat" / "pipe.jpg")
        expected["cat/pipe.jpg"] = "quarantined: unreadable"
    if os.name == "posix" and os.geteuid():  # root may read everything
        (root / "cat" / "locked.png").write_bytes(encoded("PNG", picture(71)))
        (root / "cat" / "locked.png").chmod(0)
        expected["cat/locked.png"] = "quarantined: unreadable"
    with suppress(OSError):  # some file systems take Unicode only
        (root / "cat" / os.fsdecode(b"caf\xe9.png")).write_bytes(encoded("PNG", picture(72)))
        expected["cat/caf?.png"] = "quarantined: name"
    return expected


def state(root: Path) -> dict[str, tuple[str, int, int]]:
    """Return hash, mode and time of every file; nothing is followed."""

    def files() -> Iterator[Path]:
        for folder, _, names in os.walk(root):
            yield from (Path(folder, name) for name in names)

    found = {}
    for path in files():
        status = path.lstat()
        content = str(path.readlink()).encode() if path.is_symlink() else b""
        if stat.S_ISREG(status.st_mode) and os.access(path, os.R_OK):
            content = path.read_bytes()
        found[str(path)] = (hashlib.sha256(content).hexdigest(), status.st_mode, status.st_mtime_ns)
    return found


def became(project: Path) -> Callable[[str], str]:
    """Return what `prepare` says became of a file."""
    listed: dict[str, dict[str, str]] = {}
    for row in records.read_csv(project / paths.QUARANTINE):
        listed.setdefault(row["path"], {})[row["kind"]] = row["action"]
    used = {row["path"]: row for row in records.read_csv(project / paths.MANIFEST)}
    counted = records.read_json(project / paths.metrics("prepare"))["ignored"]

    def end(path: str) -> str:
        kinds = listed.get(path, {})
        if kinds:
            action = "converted" if "converted" in kinds.values() else next(iter(kinds.values()))
            consistent = (path in used) == (action != "quarantined") and (
                action != "converted" or (project / paths.converted(used[path]["sha256"])).is_file()
            )
            return f"{action}: {', '.join(sorted(kinds))}" if consistent else "listed, and not so treated"
        if path in used:
            return "used"
        if "few" in listed.get(path.split("/", maxsplit=1)[0], {}):
            return "class quarantined: few"
        name = path.rsplit("/", 1)[-1]
        return (
            "ignored" if counted == 2 and (name.startswith(".") or name == "Thumbs.db") else "passed over in silence"
        )

    return end


def run(folder: Path) -> list[dict[str, str]]:
    """Make the files in ``folder``, prepare them, and compare.

    Returns:
        A row a file: path, what became of it, and what was to become of it.

    Raises:
        RuntimeError: the stage stopped, or the user's files are no longer what they were.
    """
    root, project = folder / "images", folder / "project"
    project.mkdir(parents=True)
    expected = make(root)
    before = state(folder / "images") | state(folder / "outside")
    done = scratch.prepare(project, [f"data.raw={root}", *OVERRIDES])
    if done.code:
        raise RuntimeError(f"prepare ended with {done.code}: {done.said}")
    if state(folder / "images") | state(folder / "outside") != before:
        raise RuntimeError("prepare changed a file that is not its own")
    end = became(project)
    return [{"file": path, "became": end(path), "expected": wanted} for path, wanted in sorted(expected.items())]


def main() -> None:
    from benchmarks import record  # noqa: PLC0415 -- rich; the tests do without

    folder = Path(tempfile.mkdtemp())
    try:
        rows = run(folder)
    finally:
        shutil.rmtree(folder)
    shown = [
        {"file": row["file"][:50], "became": row["became"], "as expected": str(row["became"] == row["expected"])}
        for row in rows
    ]
    record.write("hostile", f"{len(rows)} kinds of bad or odd files among {2 * GOOD} good ones", shown)
    wrong = [row["file"] for row in rows if row["became"] != row["expected"]]
    if wrong:
        sys.exit(f"benchmarks.hostile: expected another end of {', '.join(wrong)}")


if __name__ == "__main__":
    main()
