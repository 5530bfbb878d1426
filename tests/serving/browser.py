"""A headless Chromium, driven over its DevTools protocol by two pipes: no package is needed for it."""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pytest

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SECONDS = 90  # that anything may take
needs_browser = pytest.mark.skipif(PROGRAM is None, reason="needs Chromium")
DONE = "document.getElementById('list').getAttribute('aria-busy') === 'false'"
# What a person reads: of each entry, the newest first, its name and either label and share or the error.
READ = """[...document.querySelectorAll('#list > li')].map((item) => ({
  name: item.querySelector('.name').textContent,
  label: item.querySelector('.label')?.firstChild.textContent ?? '',
  share: item.querySelector('.label small')?.textContent ?? '',
  bars: [...item.querySelectorAll('.bars li')].map((row) => [row.firstChild.textContent, row.lastChild.textContent]),
  error: item.querySelector('.error')?.textContent ?? '',
}))"""


class Tab:
    """One page."""

    def __init__(self, to: int, answers: SimpleQueue[dict[str, Any]]) -> None:
        self.to, self.answers, self.number, self.session = to, answers, 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "DOM", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self.number += 1
        words = {"id": self.number, "method": method, "params": params}
        os.write(self.to, json.dumps(words | ({"sessionId": self.session} if self.session else {})).encode() + b"\0")
        end = time.monotonic() + SECONDS
        while True:
            try:
                told = self.answers.get(timeout=max(0.0, end - time.monotonic()))
            except Empty:
                raise TimeoutError(method) from None
            if told.get("id") == self.number:
                assert "error" not in told, f"{method}: {told['error']}"
                return dict(told["result"])
            self.events.append(told)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.until("document.body?.dataset.ready === 'yes'")

    def value(self, expression: str) -> Any:
        """Return what an expression, perhaps a promise, comes to in the page."""
        told = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told["exceptionDetails"]
        return told["result"].get("value")

    def until(self, expression: str) -> None:
        end = time.monotonic() + SECONDS
        while not self.value(expression):
            assert time.monotonic() < end, f"{expression} is not so: {self.value('document.body.innerText')}"
            time.sleep(0.05)

    def choose(self, files: Sequence[Path]) -> None:
        """Choose files with the page's input, as a person does in the dialog."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector="input[type=file]")["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(file.resolve()) for file in files])

    def drop(self, files: Sequence[Path]) -> None:
        """Drop files onto the page."""
        data = {"items": [], "files": [str(file.resolve()) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.call("Input.dispatchDragEvent", type=kind, x=200, y=300, data=data)

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press and let go a key."""
        for kind in ("keyDown", "keyUp"):
            given = {"text": text} if text and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **given)

    def picture(self, path: Path, width: int, height: int, scheme: str = "light") -> None:
        """Save what is seen at a width and with a colour scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def complaints(self) -> list[str]:
        """Return what the browser has said of the page: uncaught errors, and what its policy forbade."""
        self.call("Page.enable")  # what came before it is in the list then
        errors = [each["params"] for each in self.events if each.get("method") == "Runtime.exceptionThrown"]
        logged = [each["params"]["entry"] for each in self.events if each.get("method") == "Log.entryAdded"]
        return [str(each) for each in errors] + [each["text"] for each in logged if each["level"] == "error"]

    def requested(self) -> list[str]:
        """Return the addresses that the page has asked for, those of its own memory left out."""
        sent = [each["params"] for each in self.events if each.get("method") == "Network.requestWillBeSent"]
        addresses = [str(each["request"]["url"]) for each in sent]
        return [address for address in addresses if not address.startswith(("blob:", "data:"))]


@contextmanager
def tab() -> Iterator[Tab]:
    """Start Chromium with an empty profile, and end it with all its processes."""
    assert PROGRAM
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-pipe")
        # bash: other shells take descriptors of one digit only.
        words = ["bash", "-c", f'exec "$0" "$@" 3<&{to_read} 4>&{from_write}', PROGRAM, *options]
        process = subprocess.Popen(
            [*words, "--disable-background-networking", f"--user-data-dir={profile}"],
            pass_fds=(to_read, from_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(to_read)
        os.close(from_write)
        answers: SimpleQueue[dict[str, Any]] = SimpleQueue()
        reading = threading.Thread(target=_read, args=(from_read, answers), daemon=True)
        reading.start()
        try:
            yield Tab(to_write, answers)
        finally:
            with suppress(OSError):
                os.write(to_write, json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait(10)
            os.close(to_write)
            reading.join(10)
            os.close(from_read)


def _read(source: int, answers: SimpleQueue[dict[str, Any]]) -> None:
    rest = b""
    while block := os.read(source, 1 << 16):
        *messages, rest = (rest + block).split(b"\0")
        for message in messages:
            answers.put(json.loads(message))
