"""The server's page and the demo in a browser: what is dropped, chosen and pressed, and what is read there."""

import csv
import functools
import http.server
import io
import json
import re
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.serving import browser, tiny
from tests.serving.conftest import ROOT, Running, picture, serving
from tests.serving.tiny import CLASSES
from thaw import paths
from thaw.commands import cli
from thaw.exports import formats
from thaw.images import decoding
from thaw.serving import answers, demo, page

needs_browser = pytest.mark.skipif(browser.PROGRAM is None, reason="needs Chromium")
DONE = "document.getElementById('list').getAttribute('aria-busy') === 'false'"
# What a person reads: of each entry, the newest first, its name and either label and share or the error.
READ = """[...document.querySelectorAll('#list > li')].map((item) => ({
  name: item.querySelector('.name').textContent,
  label: item.querySelector('.label')?.firstChild.textContent ?? '',
  share: item.querySelector('.label small')?.textContent ?? '',
  bars: [...item.querySelectorAll('.bars li')].map((row) => [row.firstChild.textContent, row.lastChild.textContent]),
  error: item.querySelector('.error')?.textContent ?? '',
}))"""
# Keeps the text of the CSV that would be saved, since a headless browser has nobody to ask where to.
CATCH_CSV = (
    "URL.createObjectURL = (blob) => { blob.text().then((text) => { window.saved = text; }); return 'data:,'; }"
)


@pytest.fixture(scope="module")
def tab() -> Iterator[browser.Tab]:
    with browser.tab() as opened:
        yield opened


@pytest.fixture
def images(tmp_path: Path, red: bytes, green: bytes) -> list[Path]:
    """A red, a green and a broken image."""
    for name, data in (("r.jpg", red), ("grün, =1.png", green), ("half.jpg", red[:300])):
        (tmp_path / name).write_bytes(data)
    return [tmp_path / name for name in ("r.jpg", "grün, =1.png", "half.jpg")]


def predicted(model: Path, images: list[Path], form: str) -> str:
    words = [sys.executable, "-m", "thaw.commands.cli", "predict", "--model", str(model), form, *map(str, images)]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, encoding="utf-8").stdout


@needs_browser
def test_what_is_dropped_is_answered_as_thaw_predict_does(
    tab: browser.Tab, server: Running, tiny_export: Path, images: list[Path]
) -> None:
    told = json.loads(predicted(tiny_export, images, "--json"))
    tab.events.clear()
    tab.open(f"http://127.0.0.1:{server.port}/")
    tab.drop(images)
    tab.until(f"{DONE} && document.querySelectorAll('#list > li').length === 3")
    broken, *shown = tab.value(READ)
    assert broken["error"].startswith("expected an image, received one of kind truncated")
    for entry, expected in zip(shown, reversed(told[:2]), strict=True):
        assert (entry["name"], entry["label"]) == (Path(expected["path"]).name, expected["label"])
        assert entry["share"] == f"{expected['probability']:.1%}".replace("%", " %")
        likeliest = sorted(expected["probabilities"].items(), key=lambda item: -item[1])
        assert entry["bars"] == [[name, f"{share:.1%}".replace("%", " %")] for name, share in likeliest]

    tab.value(CATCH_CSV)
    tab.value("document.getElementById('export').click()")
    tab.until("window.saved")
    saved = list(csv.DictReader(io.StringIO(tab.value("window.saved"))))
    expected_rows = list(csv.DictReader(io.StringIO(predicted(tiny_export, images, "--csv"))))
    assert [Path(row.pop("path")).name for row in expected_rows] == [row.pop("path") for row in saved]
    assert expected_rows[2].pop("error") and saved[2].pop("error")
    for row, other in zip(saved, expected_rows, strict=True):
        assert row.keys() == other.keys() and row["label"] == other["label"]
        for name in row.keys() - {"label", "error"}:  # digits are cut off otherwise: 1e-05 and 0.00001
            assert (row[name] and float(row[name])) == (other[name] and float(other[name]))

    tab.value("document.getElementById('clear').click()")
    assert tab.value(READ) == [] and tab.value("document.getElementById('export').disabled")
    asked = {address.rpartition("/")[2] for address in tab.requested()}
    assert asked == {"", "predict"}
    assert [said for said in tab.complaints() if "422" not in said] == []  # the browser notes the status


@needs_browser
def test_it_says_what_is_unlike_the_training_images(
    tab: browser.Tab, scored_export: Path, images: list[Path], tmp_path: Path, blue: bytes
) -> None:
    (tmp_path / "blue.png").write_bytes(blue)
    with serving(scored_export) as running:
        tab.open(f"http://127.0.0.1:{running.port}/")
        tab.choose([images[0], tmp_path / "blue.png"])
        tab.until(f"{DONE} && document.querySelectorAll('#list > li').length === 2")
        remarks = "[...document.querySelectorAll('#list .unfamiliar')].map((said) => said.textContent)"
        assert tab.value(remarks) == ["unlike the training images"]
        tab.value(CATCH_CSV)
        tab.value("document.getElementById('export').click()")
        tab.until("window.saved")
        red, other = csv.DictReader(io.StringIO(tab.value("window.saved")))
        assert float(red["unfamiliarity"]) < 1 < float(other["unfamiliarity"])


@needs_browser
def test_it_is_used_by_keyboard_and_read_aloud(tab: browser.Tab, server: Running, images: list[Path]) -> None:
    tab.open(f"http://127.0.0.1:{server.port}/")
    reached = []
    for _ in range(2):
        tab.press("Tab", 9)
        reached.append(tab.value("document.activeElement.id"))
    assert reached[0] == "files"
    tab.choose(images[:1])
    tab.until(f"{DONE} && document.querySelectorAll('#list > li').length === 1")
    assert tab.value("document.getElementById('said').textContent") == "r.jpg: red, 99.8 %"
    tab.value("document.getElementById('files').focus()")
    for name in ("export", "clear"):
        tab.press("Tab", 9)
        assert tab.value("document.activeElement.id") == name
    tab.press("Enter", 13, "\r")
    assert tab.value(READ) == [] and tab.value("document.activeElement.id") == "files"
    nodes = tab.call("Accessibility.getFullAXTree")["nodes"]
    named = {(each["role"]["value"], each.get("name", {}).get("value", "")) for each in nodes}
    assert {("button", "Export CSV"), ("button", "Clear the list"), ("heading", "Answers")} <= named
    chooser = [name for role, name in named if "Choose images" in name and role == "button"]
    assert chooser  # the input itself, by its label


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_nothing_reaches_beyond_a_page_of_any_width(
    tab: browser.Tab, server: Running, tmp_path: Path, red: bytes, width: int, scheme: str
) -> None:
    named = tmp_path / f"{'a-very-long-name-' * 12}.jpg"
    named.write_bytes(red)
    tab.open(f"http://127.0.0.1:{server.port}/")
    tab.choose([named])
    tab.until(f"{DONE} && document.querySelectorAll('#list > li').length === 1")
    tab.picture(tmp_path / "page.png", width, 800, scheme)
    assert tab.value("document.documentElement.scrollWidth") <= width
    share = "document.querySelector('.bars li > span:last-child')"
    line = tab.value(f"{share}.offsetHeight")
    assert tab.value(f"{share}.textContent = '100.0 %', {share}.offsetHeight") == line, "it stays on its line"
    corner = np.asarray(Image.open(tmp_path / "page.png").convert("L"))[2, 2]
    assert corner > 200 if scheme == "light" else corner < 60


# The demo


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
    """JPEGs of several kinds, and what else a browser decodes, by what they are."""
    seeds = np.random.default_rng(0).integers((60, 0, 0), (256, 196, 256), (12, 16, 3)).astype(np.uint8)
    smooth = Image.fromarray(seeds).resize((320, 240), Image.Resampling.BICUBIC)
    turned = Image.Exif()
    turned[0x0112] = 6
    clear = smooth.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(smooth.size))
    given: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "JPEG, 4:2:0": (smooth, "jpg", {"quality": 90}),
        "JPEG, 4:4:4": (smooth, "jpg", {"quality": 95, "subsampling": 0}),
        "JPEG, progressive": (smooth, "jpg", {"quality": 80, "progressive": True}),
        "JPEG, grey": (smooth.convert("L"), "jpg", {"quality": 90}),
        "JPEG, turned by EXIF": (smooth, "jpg", {"quality": 90, "exif": turned}),
        "PNG": (smooth, "png", {}),
        "PNG, transparent": (clear, "png", {}),
        "WebP": (smooth, "webp", {"quality": 90}),
        "GIF": (smooth.quantize(64), "gif", {}),
    }
    found = {}
    for number, (what, (image, suffix, options)) in enumerate(given.items()):
        found[what] = folder / f"{number}.{suffix}"
        image.save(found[what], **options)
    return found


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

    differences = {}
    source = page.read("demo.js").partition("async function pixels(")[2].partition("\nasync function classify")[0]
    for what, path in files.items():
        data = json.dumps(list(path.read_bytes()))
        body = f"const LIMIT = 1e9; async function pixels({source}; const file = new Blob([new Uint8Array({data})]);"
        told = tab.value(
            f"(async () => {{ {body} const p = await pixels(file); return [p.height, p.width, ...p.rgb]; }})()"
        )
        there = np.array(told[2:], np.int64).reshape(told[0], told[1], 3)
        here = np.asarray(decoding.inspect(path.read_bytes())[1], np.int64)
        assert there.shape == here.shape, what
        differences[what] = (int(abs(there - here).max()), float(abs(there - here).mean()))
    print(differences)
    assert all(largest <= LARGEST and mean <= MEAN for largest, mean in differences.values()), differences


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
