"""The page without a server: what the command writes, and what the page says in a browser."""

import base64
import functools
import gzip
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.serving import browser, tiny
from tests.serving.browser import DONE, READ, needs_browser
from tests.serving.conftest import ROOT, picture
from tests.serving.tiny import CLASSES
from thaw import paths
from thaw.commands import cli
from thaw.exports import formats
from thaw.images import decoding
from thaw.serving import answers, demo, page


def test_a_runtime_of_other_bytes_is_refused(
    tiny_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "other.tgz").write_bytes(b"other bytes")
    for runtime, said in (("other.tgz", "received another file"), ("none.tgz", "found none")):
        words = ["thaw", "demo", "--model", str(tiny_export), "--runtime", str(tmp_path / runtime)]
        monkeypatch.setattr(sys, "argv", [*words, "--out", str(tmp_path / "demo.html")])
        with pytest.raises(SystemExit, match=rf"expected the npm package onnxruntime-web .*{said}"):
            cli.main()
    assert not (tmp_path / "demo.html").exists()


def test_without_npm_it_is_said_what_to_do(tiny_export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["thaw", "demo", "--model", str(tiny_export)])
    with pytest.raises(SystemExit, match=r"expected the program npm, .* found none; .* give it with --runtime"):
        cli.main()


def test_only_a_model_that_it_can_hold_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / paths.KERAS_FILE).touch()
    monkeypatch.setattr(sys, "argv", ["thaw", "demo", "--model", str(tmp_path)])
    with pytest.raises(SystemExit, match="expected an exported model of the format onnx_int8 or onnx, found none"):
        cli.main()


def held_in(page: str, name: str) -> bytes:
    """Return what an element of the page holds, as the page's script reads it."""
    (text,) = re.findall(rf'<script type="text/plain" id="{name}">(.*?)</script>', page)
    return gzip.decompress(base64.b64decode(text))


@pytest.mark.parametrize("there", [("onnx",), ("onnx", "onnx_int8"), ("onnx_int8",)])
def test_the_command_writes_a_page_that_holds_the_smallest_model_that_is_there(
    there: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {demo.CODE: b"export {};", demo.WASM: b"\0asm"}
    with tarfile.open(tmp_path / "runtime.tgz", "w:gz") as archive:
        for name, data in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    digest = hashlib.sha512((tmp_path / "runtime.tgz").read_bytes()).digest()
    monkeypatch.setattr(demo, "INTEGRITY", base64.b64encode(digest).decode())
    for name in there:
        tiny.write(tmp_path / "export" / formats.FORMATS[name].about.file, format=name)
    words = ["thaw", "demo", "--model", str(tmp_path / "export"), "--runtime", str(tmp_path / "runtime.tgz")]
    monkeypatch.setattr(sys, "argv", [*words, "--out", str(tmp_path / "demo.html")])
    cli.main()
    model = tmp_path / "export" / formats.FORMATS[there[-1]].about.file
    text = (tmp_path / "demo.html").read_text(encoding="utf-8")
    assert held_in(text, "model") == model.read_bytes()
    assert (held_in(text, "runtime"), held_in(text, "wasm")) == tuple(parts.values())
    assert json.dumps(CLASSES, ensure_ascii=False) in text
    assert f"MB with {model}; open it in a browser" in capsys.readouterr().out


@pytest.fixture(scope="module")
def runtime() -> Path:
    """The npm package; what was fetched once is kept in the project."""
    patch = pytest.MonkeyPatch()
    patch.chdir(ROOT)
    patch.delenv("DVC_ROOT", raising=False)
    try:
        return demo.fetched().resolve()
    except ValueError as error:
        pytest.skip(str(error))
    finally:
        patch.undo()


def odd_pictures(folder: Path) -> dict[str, Path]:
    """What a browser decodes as thaw does, as files by what they are: the table of docs/serving.md."""
    seeds = np.random.default_rng(0).integers((60, 0, 0), (256, 196, 256), (12, 16, 3)).astype(np.uint8)
    smooth = Image.fromarray(seeds).resize((320, 240), Image.Resampling.BICUBIC)
    turned = Image.Exif()
    turned[0x0112] = 6
    clear = smooth.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(smooth.size))
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    given: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "JPEG, 4:2:0": (smooth, "jpg", {"quality": 90}),
        "JPEG, 4:4:4": (smooth, "jpg", {"quality": 95, "subsampling": 0}),
        "JPEG, progressive": (smooth, "jpg", {"quality": 80, "progressive": True}),
        "JPEG, grey": (smooth.convert("L"), "jpg", {"quality": 90}),
        "JPEG, CMYK": (smooth.convert("CMYK"), "jpg", {"quality": 90}),
        "JPEG, turned by EXIF": (smooth, "jpg", {"quality": 90, "exif": turned}),
        "JPEG, with an sRGB profile": (smooth, "jpg", {"quality": 90, "icc_profile": profile}),
        "PNG": (smooth, "png", {}),
        "PNG, transparent": (clear, "png", {}),
        "PNG, with an sRGB profile": (smooth, "png", {"icc_profile": profile}),
        "PNG, 16 bits": (deep(smooth, 16), "png", {}),
        "WebP": (smooth, "webp", {"quality": 90}),
        "GIF": (smooth.quantize(64), "gif", {}),
        "BMP": (smooth, "bmp", {}),
    }
    found = {}
    for number, (what, (image, suffix, options)) in enumerate(given.items()):
        found[what] = folder / f"{number}.{suffix}"
        image.save(found[what], **options)
    return found


def deep(picture: Image.Image, bits: int) -> Image.Image:
    """A grey picture of 16 bits, of which so many are in use, and the lower 8 do not only repeat the upper 8."""
    grey = np.asarray(picture.convert("L"), np.uint32)
    return Image.fromarray(((grey * 257 + 100).clip(0, 65535) >> 16 - bits).astype(np.uint16))


# Of the browser's pixels from Pillow's, in grey levels of 255: the largest, and in the mean.
LARGEST, MEAN = 2, 0.1


@needs_browser
@pytest.mark.slow
def test_the_demo_classifies_from_the_disk_and_its_pixels_are_nearly_those_of_pillow(
    tab: browser.Tab, runtime: Path, tiny_export: Path, tmp_path: Path, red: bytes
) -> None:
    out = tmp_path / "demo.html"
    demo.write(out, tiny_export / paths.ONNX_FILE, runtime)
    first = out.read_bytes()
    demo.write(out, tiny_export / paths.ONNX_FILE, runtime)
    assert out.read_bytes() == first
    tab.events.clear()
    tab.open(out.as_uri())
    files = odd_pictures(tmp_path)
    (tmp_path / "none.jpg").write_bytes(b"no image")
    tab.drop([*files.values(), tmp_path / "none.jpg"])
    tab.until(f"{DONE} && document.querySelectorAll('#list > li').length === {len(files) + 1}")
    broken, *shown = tab.value(READ)
    assert broken["error"].startswith("expected an image, received what this browser can't decode")
    loaded = formats.load(tiny_export)
    for entry, path in zip(reversed(shown), files.values(), strict=True):
        row = answers.answer(loaded, path.read_bytes())
        assert entry["label"] == CLASSES[int(row.argmax())]
        assert float(entry["share"].removesuffix(" %")) == pytest.approx(100 * float(row.max()), abs=0.3)
    assert tab.requested() == [out.as_uri()] and tab.complaints() == []

    differences = {what: apart(tab, path.read_bytes()) for what, path in files.items()}
    print(differences)
    assert all(largest <= LARGEST and mean <= MEAN for largest, mean in differences.values()), differences


def apart(tab: browser.Tab, data: bytes) -> tuple[int, float]:
    """By how much the page's pixels of an image file differ from thaw's: the largest difference, and in the mean."""
    source = page.read("demo.js").partition("async function pixels(")[2].partition("\nasync function classify")[0]
    body = f"const LIMIT = 1e9; async function pixels({source}; "
    body += f"const file = new Blob([new Uint8Array({json.dumps(list(data))})]);"
    told = tab.value(
        f"(async () => {{ {body} const p = await pixels(file); return [p.height, p.width, ...p.rgb]; }})()"
    )
    there = np.array(told[2:], np.int64).reshape(told[0], told[1], 3)
    here = np.asarray(decoding.inspect(data)[1], np.int64)
    assert there.shape == here.shape
    return int(abs(there - here).max()), float(abs(there - here).mean())


@needs_browser
@pytest.mark.slow
def test_what_the_demo_does_not_read_as_training_did_is_what_the_guide_says(
    tab: browser.Tab, runtime: Path, tiny_export: Path, tmp_path: Path
) -> None:
    demo.write(tmp_path / "demo.html", tiny_export / paths.ONNX_FILE, runtime)
    tab.open((tmp_path / "demo.html").as_uri())
    picture_ = Image.linear_gradient("L").resize((64, 48)).convert("RGB")
    picture_.save(tmp_path / "picture.tiff")
    tab.choose([tmp_path / "picture.tiff"])
    tab.until(f"{DONE} && document.querySelectorAll('#list > li').length === 1")
    assert tab.value(READ)[0]["error"].startswith("expected an image, received what this browser can't decode")
    row = answers.answer(formats.load(tiny_export), (tmp_path / "picture.tiff").read_bytes())
    assert np.isfinite(row).all(), "which thaw reads"
    deep(picture_, 12).save(tmp_path / "dark.png")
    largest, _ = apart(tab, (tmp_path / "dark.png").read_bytes())
    assert 200 < largest <= 255, "thaw stretches, the browser does not"


@pytest.fixture
def folder_server(tmp_path: Path) -> Iterator[str]:
    """The address at which a plain web server gives the files of the test's folder."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=tmp_path)) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join(10)


@needs_browser
@pytest.mark.slow
def test_the_example_for_a_browser_says_what_the_model_says_here(
    tab: browser.Tab, runtime: Path, folder_server: str, tiny_export: Path, tmp_path: Path
) -> None:
    guide = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```javascript\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    with tarfile.open(runtime) as archive:
        for name in (demo.CODE, demo.WASM):
            member = archive.extractfile(name)
            assert member
            (tmp_path / Path(name).name).write_bytes(member.read())
    (tmp_path / paths.ONNX_FILE).write_bytes((tiny_export / paths.ONNX_FILE).read_bytes())
    data = picture((120, 100, 40), "PNG")
    (tmp_path / "image.png").write_bytes(data)
    imported = json.dumps({"imports": {"onnxruntime-web/wasm": f"./{Path(demo.CODE).name}"}})
    (tmp_path / "index.html").write_text(
        f'<!doctype html><body data-ready="yes"><script type="importmap">{imported}</script><script type="module">'
        'const file = await (await fetch("image.png")).blob();'
        f"console.log = (...said) => {{ window.said = said; }};\n{block}</script>",
        encoding="utf-8",
    )
    tab.open(f"{folder_server}/index.html")
    tab.until("window.said")
    label, probability = tab.value("window.said")
    row = answers.answer(formats.load(tiny_export), data)
    assert label == CLASSES[int(row.argmax())] and 0.5 < row.max() < 0.99, "so sure that pixels would not matter"
    assert probability == pytest.approx(float(row.max()), abs=1e-6)


@needs_browser
@pytest.mark.slow
def test_an_image_larger_than_in_training_is_refused_by_the_demo_too(
    tab: browser.Tab, runtime: Path, tmp_path: Path
) -> None:
    tiny.write(tmp_path / paths.ONNX_FILE, files={"max_pixels": 100, "stretch": True})
    demo.write(tmp_path / "demo.html", tmp_path / paths.ONNX_FILE, runtime)
    (tmp_path / "large.png").write_bytes(picture((200, 40, 40), "PNG"))
    tab.open((tmp_path / "demo.html").as_uri())
    tab.choose([tmp_path / "large.png"])
    tab.until(f"{DONE} && document.querySelectorAll('#list > li').length === 1")
    assert tab.value(READ)[0]["error"].startswith("expected 100 pixels at most, received 30 × 20")


def exported(folder: Path, name: str, files: list[Path]) -> None:
    """Write an export of a real classifier, whose answers for the files differ."""
    from thaw.classifier import head, model  # noqa: PLC0415 -- TensorFlow is loaded where a test wants it
    from thaw.config import schema  # noqa: PLC0415
    from thaw.exports import write  # noqa: PLC0415
    from thaw.runtime.framework import keras  # noqa: PLC0415

    keras.utils.set_random_seed(0)
    image, linear = schema.Image(32, "squash", "bilinear", antialias=True), schema.Head("avg", [], [], 0.0)
    pixels = keras.Input((32, 32, 3), name="pixels")
    values = keras.layers.Rescaling(1 / 127.5, offset=-1)(pixels)
    values = keras.layers.Conv2D(16, 5, strides=3, activation="relu")(values)
    values = keras.layers.Conv2D(32, 3, strides=2, activation="relu")(values)
    card = model.Card(schema.Backbone("efficientnet_lite0", "random", "", "", ""), "", image, linear, CLASSES)
    classifier = model.Classifier(keras.Model(pixels, values), head.build(linear, 32, 2), card, {})
    classifier.head.get_layer("logits").kernel.assign(classifier.head.get_layer("logits").kernel * 8)

    def pictures() -> Iterator[np.ndarray]:
        for file in files:
            yield np.asarray(Image.open(file).convert("RGB"))

    write.write(folder, classifier, [name], calibration=pictures)


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "onnx_int8"])
def test_the_line_of_the_guide_writes_a_page_that_says_what_thaw_predict_says(
    name: str, tab: browser.Tab, runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
    kept = tmp_path / paths.RUNTIMES / runtime.name
    kept.parent.mkdir(parents=True)
    shutil.copy(runtime, kept)
    files = list(odd_pictures(tmp_path).values())
    exported(paths.EXPORTED, name, files)
    (line,) = re.findall(r"^thaw demo .*$", (ROOT / "docs" / "serving.md").read_text(encoding="utf-8"), re.MULTILINE)
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.startswith("demo.html: ") and formats.FORMATS[name].about.file in done.stdout
    tab.open((tmp_path / "demo.html").as_uri())
    tab.drop(files)
    tab.until(f"{DONE} && document.querySelectorAll('#list > li').length === {len(files)}")
    asked = subprocess.run(["thaw", "predict", "--json", *map(str, files)], capture_output=True, text=True, check=True)
    told = json.loads(asked.stdout)
    shares = [float(entry["share"].removesuffix(" %")) for entry in reversed(tab.value(READ))]
    assert [entry["label"] for entry in reversed(tab.value(READ))] == [each["label"] for each in told]
    assert shares == pytest.approx([100 * each["probability"] for each in told], abs=0.2)
    assert np.ptp(shares) > 1, "the pictures must differ, or this could not fail"
