"""Give the program what nobody meant it to read, for some minutes, and say what breaks a promise.

``python -m benchmarks.fuzz decoding --minutes 10``; also ``tables``, ``configuration`` and ``server``. Hypothesis
makes up the inputs, most of them sound ones with a few bytes changed, and makes each finding as small as it can. The
promise is the same everywhere: a result, or an error of the kind that users are shown as one line.
"""

import argparse
import contextlib
import io
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from thaw.config import load, schema
from thaw.data import issues, table
from thaw.images import decoding, integrity

ROOT = Path(__file__).resolve().parents[1]
MAX_PIXELS = 100_000
SLOW = 5.0  # seconds, for a file of a few kilobytes
MODEL = schema.Image(32, "squash", "bilinear", antialias=True)


@st.composite
def damaged(draw: st.DrawFn, whole: Sequence[bytes]) -> bytes:
    """Draw one of some files, with a few bytes changed, cut out, put in, doubled, or exchanged with another's."""
    data = bytearray(draw(st.sampled_from(whole)))
    for _ in range(draw(st.integers(0, 5))):
        place = draw(st.integers(0, min(len(data), 120)) | st.integers(0, len(data)))
        length = draw(st.integers(0, 4) | st.integers(0, len(data)))
        other = draw(st.sampled_from(whole))
        data[place : place + length] = draw(
            st.binary(max_size=8)
            | st.sampled_from([b"\0" * 4, b"\xff" * 4, b"\x7f\xff\xff\xff", b"\x80\0\0\0"])
            | st.just(bytes(data[place : place + length]) * 2)
            | st.just(other[place : place + length])
        )
    return bytes(data)


def images() -> list[bytes]:
    """Return small files of every format, in many of its kinds."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8)
    colour, deep = Image.fromarray(pixels), Image.fromarray(pixels[..., 0].astype(np.uint16) * 200)
    exif = Image.Exif()
    exif[274] = 6
    kinds: list[tuple[str, Image.Image, dict[str, Any]]] = [
        *((kind, colour, {}) for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "ICO", "TGA")),
        *(("PNG", image, {}) for image in (deep, colour.convert("RGBA"), colour.convert("1"), colour.quantize(7))),
        *(("JPEG", colour.convert(mode), {}) for mode in ("CMYK", "L")),
        *(("JPEG", colour, {"progressive": True, "exif": exif}), ("JPEG", colour, {"subsampling": 2, "exif": exif})),
        ("GIF", colour, {"save_all": True, "append_images": [colour.rotate(180)]}),
        ("BMP", colour.quantize(7), {}),
        ("WEBP", colour.convert("RGBA"), {"lossless": True}),
        ("WEBP", colour, {"save_all": True, "append_images": [colour.rotate(180)]}),
        *(("TIFF", colour, {"compression": name}) for name in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")),
        *(("TIFF", image, {}) for image in (deep, colour.convert("CMYK"), colour.convert("RGBA"))),
        *((("AVIF", colour, {}),) if features.check("avif") else ()),
    ]
    found = []
    for kind, image, options in kinds:
        buffer = io.BytesIO()
        image.copy().save(buffer, kind, **options)
        found.append(buffer.getvalue())
    return found


def decode(data: bytes) -> None:
    """Decode bytes as `prepare` does, and as a deployed model does."""
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow says of some that they are corrupt, and goes on
        try:
            picture, pixels = decoding.inspect(data, MAX_PIXELS)
        except integrity.Unusable as refused:
            if refused.kind not in issues.REMEDIES or len(refused.reason.splitlines()) != 1:
                raise AssertionError(f"refused as {refused.kind!r}: {refused.reason!r}") from None
        else:
            given = decoding.pixels(data, decoding.Reading(MAX_PIXELS), MODEL)
            if pixels.mode != "RGB" or pixels.width * pixels.height > MAX_PIXELS or given.ndim != 3:
                raise AssertionError(f"decoded to {pixels.mode} {pixels.size}, {given.shape}; {picture}")
    if (took := time.process_time() - began) > SLOW:
        raise AssertionError(f"took {took:.1f} s")


def tables(folder: Path) -> list[bytes]:
    """Return tables of images, as CSV and as Parquet."""
    import pyarrow as pa  # noqa: PLC0415
    import pyarrow.parquet as pq  # noqa: PLC0415

    texts = [
        "path,label\na.jpg,cat\nb.jpg,dog\n",
        'label, path, weight, group, split\r\n"01", "a, b.jpg", 2.5, anna, train\r\nx, ./sub/ü.png, , , test\r\n',
        "\ufeffpath,label,split\n../a.jpg,=1+1,val\n/etc/passwd,\"two\nlines\",\n",
    ]  # fmt: skip
    whole = [text.encode() for text in texts]
    columns = {"path": ["a.jpg", "b.jpg"], "label": [1, 2], "split": ["train", None], "weight": [0.5, float("nan")]}
    for number, compression in enumerate(("none", "snappy", "zstd")):
        file = folder / f"{number}.parquet"
        pq.write_table(pa.table(columns), file, compression=compression)
        whole.append(file.read_bytes())
    return whole


def read_table(folder: Path, data: bytes) -> None:
    """Read bytes as the table that ``data.raw`` names, under either ending."""
    for ending in ("csv", "parquet"):
        path = folder / f"images.{ending}"
        path.write_bytes(data)
        try:
            entries, _ = table.read(path)
        except ValueError:  # which users are shown as one line
            continue
        if any(not (entry.path and entry.label and 0 <= entry.weight < float("inf")) for entry in entries):
            raise AssertionError(f"accepted {entries}")


def read_params(folder: Path, data: bytes) -> None:
    """Read bytes as params.yaml."""
    (folder / "params.yaml").write_bytes(data)
    with contextlib.chdir(folder), contextlib.suppress(ValueError):
        load.read()


def words() -> st.SearchStrategy[list[str]]:
    """Draw what somebody might write on the command line."""
    names = [f"{group}.{name}" for group, own in sound().items() if isinstance(own, dict) for name in own]
    keys = st.sampled_from([*names, *sound(), "hydra.run.dir", "+x", "~data", "++head.l2"]) | st.text(max_size=8)
    values = st.text(max_size=12) | st.sampled_from(["1", "null", "[1,2]", "{a:1}", "${data.raw}", "'", "a,b", "???"])
    return st.lists(st.builds(lambda key, value: f"{key}={value}", keys, values) | st.text(max_size=12), max_size=3)


def sound() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return found


def compose(overrides: list[str]) -> None:
    """Compose conf/ with words of a command line."""
    with contextlib.chdir(ROOT), contextlib.suppress(ValueError):
        load.check(yaml.safe_load(load.compose(overrides, remembered=[])))


def requests() -> list[bytes]:
    """Return requests that a server is given: of an image, of several, of none, and of its pages."""
    image = images()[0]
    part = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    bodies = [image, b"[]", b"", part + image + b"\r\n" + part + image + b"\r\n--b--\r\n"]
    kinds = [b"image/png", b"application/json", b"text/plain", b"multipart/form-data; boundary=b"]
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s"
    posts = [head % (kind, len(body), body) for kind, body in zip(kinds, bodies, strict=True)]
    return posts + [
        b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in (b"/", b"/health", b"/card", b"/metrics?a=%00")
    ]


def ask(port: int, data: bytes) -> bytes:
    """Send bytes to a server, and return what it says first; it must answer for itself then."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
        with contextlib.suppress(ConnectionError):
            link.sendall(data)
            link.shutdown(socket.SHUT_WR)
        said = b""
        with contextlib.suppress(ConnectionError):
            while block := link.recv(65536):
                said += block
    if b" 500 " in said[:16] or b"Traceback" in said:
        raise AssertionError(f"answered {said[:2000]!r}")
    return said


def serve(port: int, data: bytes) -> None:
    ask(port, data)
    if not ask(port, b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").startswith(b"HTTP/1.1 200"):
        raise AssertionError("the server does not answer any more")


@contextlib.contextmanager
def server(folder: Path) -> Iterator[int]:
    """Serve a tiny model; give the port."""
    from tests.serving import tiny  # noqa: PLC0415

    tiny.write(folder / "model.onnx")
    command = [sys.executable, "-m", "thaw.commands", "serve", "--model", str(folder), "--port", "0", "--max-mb", "1"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stderr.readline() if process.stderr else ""
            yield int(line.rpartition(":")[2].split()[0])
        finally:
            process.kill()


def examples(strategy: st.SearchStrategy[Any], promise: Callable[[Any], None], most: int, **how: Any) -> None:
    """Let Hypothesis try a promise on so many inputs.

    Raises:
        AssertionError: it is broken; and whatever the program raises that it must not.
    """

    @settings(max_examples=most, deadline=None, database=None, suppress_health_check=list(HealthCheck), **how)
    @given(strategy)
    def tried(value: Any) -> None:
        promise(value)

    tried()


@contextlib.contextmanager
def target(name: str) -> Iterator[list[tuple[st.SearchStrategy[Any], Callable[[Any], None]]]]:
    """Give what inputs are drawn from, and the promises on them."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if name == "decoding":
            yield [(damaged(images()) | st.binary(max_size=200), decode)]
        elif name == "tables":
            yield [(damaged(tables(folder)) | st.binary(max_size=200), lambda data: read_table(folder, data))]
        elif name == "configuration":
            whole = [
                (ROOT / "params.yaml").read_bytes(),
                b"a: 1\n",
                b"- 1\n",
                b"data: &x {raw: *x}\n",
                b"!!python/none",
            ]
            yield [(damaged(whole), lambda data: read_params(folder, data)), (words(), compose)]
        else:
            with server(folder) as port:
                yield [(damaged(requests()) | st.binary(max_size=200), lambda data: serve(port, data))]


TARGETS = ("decoding", "tables", "configuration", "server")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", choices=TARGETS, help="what is given the inputs")
    parser.add_argument("--minutes", type=float, default=10, help="how long (default: %(default)s)")
    options = parser.parse_args()
    end, tried = time.monotonic() + 60 * options.minutes, 0
    with target(options.target) as promises:
        while time.monotonic() < end:
            for strategy, promise in promises:

                def counted(value: Any, promise: Callable[[Any], None] = promise) -> None:
                    nonlocal tried
                    tried += 1
                    if time.monotonic() < end:
                        promise(value)

                examples(strategy, counted, 500)
    print(f"{options.target}: {tried:,} inputs in {options.minutes:g} minutes, no promise broken")


if __name__ == "__main__":
    main()
