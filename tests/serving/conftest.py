import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.serving import browser, tiny
from thaw import paths

ROOT = Path(__file__).resolve().parents[2]


def picture(colour: tuple[int, int, int], kind: str, size: tuple[int, int] = (30, 20), seed: int = 0) -> bytes:
    """An image file of a colour, with noise."""
    noise = np.random.default_rng(seed).integers(-40, 41, (size[1], size[0], 3))
    buffer = io.BytesIO()
    Image.fromarray((colour + noise).clip(0, 255).astype(np.uint8)).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def tiny_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of the tiny classifier, ONNX only: no TensorFlow is needed to ask it."""
    folder = tmp_path_factory.mktemp("tiny") / paths.EXPORTED
    tiny.write(folder / paths.ONNX_FILE)
    return folder


@pytest.fixture(scope="session")
def scored_export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with a score of images unlike the training images, above 1 for blue ones."""
    folder = tmp_path_factory.mktemp("scored") / paths.EXPORTED
    tiny.write(folder / paths.ONNX_FILE, scored=True)
    return folder


@pytest.fixture(scope="session")
def blue() -> bytes:
    return picture((40, 60, 200), "PNG")


@pytest.fixture(scope="session")
def green() -> bytes:
    return picture((40, 200, 40), "PNG")


@pytest.fixture(scope="session")
def red() -> bytes:
    return picture((200, 40, 40), "JPEG")


@dataclass
class Running:
    """A server in a process of its own."""

    port: int
    process: "subprocess.Popen[str]"


@contextmanager
def serving(model: Path, *words: str) -> Iterator[Running]:
    """Start `thaw serve` on a free port; whatever happens, no process is left."""
    command = [sys.executable, "-m", "thaw.commands.cli", "serve", "--model", str(model), "--port", "0", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        line = process.stderr.readline()
        assert line.startswith("thaw serve: http://127.0.0.1:"), line + process.stderr.read()
        yield Running(int(line.rpartition(":")[2].split()[0]), process)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(40)
        finally:
            process.kill()
            process.communicate()


@pytest.fixture(scope="session")
def server(tiny_export: Path) -> Iterator[Running]:
    """A server whose requests may have one megabyte, and its images a tenth of a megapixel."""
    with serving(tiny_export, "--max-mb", "1", "--max-megapixels", "0.1") as running:
        yield running


@pytest.fixture(scope="module")
def tab() -> Iterator[browser.Tab]:
    with browser.tab() as opened:
        yield opened
