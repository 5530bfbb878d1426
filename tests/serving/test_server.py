"""`thaw serve`: what it answers, what it refuses and how, and that it ends in order."""

import asyncio
import base64
import gzip
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import numpy as np
import psutil
import pytest
import uvicorn

from tests.serving.conftest import ROOT, Running, picture, serving
from tests.serving.tiny import CLASSES
from thaw.exports import formats
from thaw.exports.exported import Answer, Exported, answered
from thaw.images.integrity import Unusable
from thaw.serving import answers, app, batches, monitoring, page, uploads
from thaw.serving.uploads import RefusedError

MB = 1 << 20


def ask(
    server: Running,
    path: str,
    body: Any = None,
    kind: str = "",
    method: str = "",
    headers: Mapping[str, str] = MappingProxyType({}),
) -> tuple[int, Any, Any]:
    """Send a request; return status, body and headers."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    headers = dict(headers) | ({"Content-Type": kind} if kind else {})
    connection.request(method or ("GET" if body is None else "POST"), path, body, headers)
    reply = connection.getresponse()
    data = reply.read()
    connection.close()
    is_json = reply.headers.get_content_type() == "application/json"
    return reply.status, json.loads(data) if is_json and data else data.decode(), reply.headers


def form(*files: tuple[str, bytes]) -> tuple[bytes, str]:
    """A form with files, as a browser sends it."""
    mark = uuid4().hex
    head = '--{}\r\nContent-Disposition: form-data; name="image"; filename="{}"\r\n\r\n'
    parts = [head.format(mark, name).encode() + data + b"\r\n" for name, data in files]
    return b"".join(parts) + f"--{mark}--\r\n".encode(), f"multipart/form-data; boundary={mark}"


def as_json(**told: Any) -> tuple[bytes, str]:
    return json.dumps(told).encode(), "application/json"


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@contextmanager
def here(application: Any) -> Iterator[Running]:
    """Serve an application in this process."""
    server = uvicorn.Server(uvicorn.Config(application, lifespan="on", log_level="critical"))
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            yield Running(listening.getsockname()[1], None)  # type: ignore[arg-type]  # no process
        finally:
            server.should_exit = True
            thread.join(30)


@pytest.fixture(scope="module")
def expected(tiny_export: Path, green: bytes, red: bytes) -> dict[bytes, dict[str, Any]]:
    """What the model says here, in this process."""
    loaded, found = formats.load(tiny_export), {}
    for data in (green, red):
        row = answers.answer(loaded, data)
        shares = {name: float(share) for name, share in zip(CLASSES, row, strict=True)}
        best = max(shares, key=lambda name: shares[name])
        found[data] = {"label": best, "probability": shares[best], "probabilities": shares}
    return found


# Answers


@pytest.mark.parametrize("kind", ["", "image/jpeg", "application/octet-stream", "application/x-www-form-urlencoded"])
def test_an_image_as_the_body_is_answered_as_in_this_process(
    server: Running, red: bytes, expected: dict[bytes, Any], kind: str
) -> None:
    status, told, headers = ask(server, "/predict", red, kind)
    assert (status, told) == (200, expected[red])
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert not headers["Server"]  # nobody needs to know


def test_forms_and_json_hold_one_image_or_many(
    server: Running, red: bytes, green: bytes, expected: dict[bytes, Any]
) -> None:
    both = [expected[red], expected[green]]
    status, told, _ = ask(server, "/predict", *form(("r.jpg", red), ("grün.png", green)))
    assert status == 200
    assert told == {"predictions": [{"name": name} | e for name, e in zip(["r.jpg", "grün.png"], both, strict=True)]}
    assert ask(server, "/predict", *form(("r.jpg", red)))[1]["predictions"][0]["label"] == "red"
    assert ask(server, "/predict", *as_json(image=text(red)))[1] == both[0]
    assert ask(server, "/predict", *as_json(image=f"data:image/jpeg;base64,{text(red)}"))[1] == both[0]
    told = ask(server, "/predict", *as_json(images=[text(red), text(green)]))[1]
    assert told == {"predictions": [{"name": name} | each for name, each in zip("12", both, strict=True)]}


def test_top_names_the_likeliest_classes_only(server: Running, red: bytes) -> None:
    assert list(ask(server, "/predict?top=1", red)[1]["probabilities"]) == ["red"]
    assert list(ask(server, "/predict?top=9", red)[1]["probabilities"]) == CLASSES[::-1]  # all, the likeliest first
    assert list(ask(server, "/predict", red)[1]["probabilities"]) == CLASSES


def test_an_image_that_cannot_be_used_takes_nothing_from_the_others(server: Running, red: bytes) -> None:
    status, told, _ = ask(server, "/predict", *form(("r.jpg", red), ("x", b"no image"), ("half.jpg", red[:300])))
    good, bad, half = told["predictions"]
    assert (status, good["label"]) == (200, "red")
    assert (bad["name"], bad["status"], half["status"]) == ("x", 415, 422)
    assert bad["error"].startswith("expected an image, received ")


def test_a_broken_base64_takes_nothing_from_the_others(server: Running, red: bytes) -> None:
    status, told, _ = ask(server, "/predict", *as_json(images=[text(red), "no base64!", text(red)]))
    good, bad, last = told["predictions"]
    assert (status, good["label"], last["label"]) == (200, "red", "red")
    assert (bad["name"], bad["status"]) == ("2", 400)
    assert bad["error"].startswith("expected base64 as image 2, received ")
    assert ask(server, "/predict", *as_json(images=["no base64!", ""]))[0] == 400


# Refusals

JUNK = b"no image at all"


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "", 400),
        (b"x" * (MB + 1), "", 413),
        (JUNK, "image/png", 415),
        (b"%PDF-1.7 and more", "", 415),
        (b"", "multipart/form-data; boundary=x", 400),
        (b"--x\r\nbroken", "multipart/form-data; boundary=x", 400),
        (b"--x--\r\n", "multipart/form-data", 400),
        (form(("x", JUNK))[0], "multipart/form-data; boundary=other", 400),
        (b"{", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b"\xff\xfe{}", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"{}", "application/json", 400),
        (b'{"image": 7}', "application/json", 400),
        (b'{"images": "aGk="}', "application/json", 400),
        (b'{"images": []}', "application/json", 400),
        (b'{"image": "no base64!"}', "application/json", 400),
        (b'{"image": "aGk="}', "application/json", 415),
        (b'{"image": "", "images": []}', "application/json", 400),
    ],
)
def test_what_is_no_image_is_refused_in_one_line(server: Running, body: bytes, kind: str, status: int) -> None:
    received, told, _ = ask(server, "/predict", body, kind, "POST")
    assert received == status, told
    assert list(told) == ["error"]
    assert re.match(r"(?:x: )?expected .+, received .+; .+", told["error"]) and "\n" not in told["error"]
    assert "Traceback" not in told["error"]


def test_what_is_wrong_with_an_image_has_its_status(server: Running, red: bytes, green: bytes) -> None:
    large = picture((200, 40, 40), "PNG", (400, 300))
    assert len(large) < MB
    for body, status, word in (
        (red[:300], 422, "truncated"),
        (green[:60], 422, "truncated"),
        (large, 413, "400 × 300, more than 100,000 pixels"),
        (b"\x89PNG\r\n\x1a\n" + bytes(200), 422, "truncated"),
        (b"P6 1 1 255 abc", 415, "unsupported"),
    ):
        received, told, _ = ask(server, "/predict", body)
        assert received == status and word in told["error"], told


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/predict", 405),
        ("POST", "/labels", 405),
        ("GET", "/docs", 404),
        ("GET", "/../../etc/passwd", 404),
        ("POST", "/predict/", 404),
        ("GET", "/health/", 404),
    ],
)
def test_other_paths_and_methods_are_refused_in_the_same_way(
    server: Running, method: str, path: str, status: int
) -> None:
    received, told, _ = ask(server, path, method=method)
    assert received == status and re.match(r"expected .+, received .+; .+", told["error"])


def test_a_body_that_is_packed_is_told_so(server: Running, red: bytes) -> None:
    packed = {"Content-Encoding": "gzip"}
    status, told, _ = ask(server, "/predict", gzip.compress(red), headers=packed)
    assert status == 415 and "received Content-Encoding gzip" in told["error"]
    assert ask(server, "/predict", red, headers={"Content-Encoding": "identity"})[1]["label"] == "red"


@pytest.mark.parametrize("path", ["/health", "/labels", "/metrics", "/"])
def test_what_can_be_got_can_be_looked_at_without_its_body(server: Running, path: str) -> None:
    status, told, headers = ask(server, path, method="HEAD")
    assert (status, told) == (200, "")
    assert headers["Content-Type"] == ask(server, path)[2]["Content-Type"]


def test_what_a_request_may_hold_is_described(server: Running) -> None:
    told = ask(server, "/openapi.json")[1]["paths"]["/predict"]["post"]
    assert set(told["requestBody"]["content"]) == {
        "application/octet-stream",
        "multipart/form-data",
        "application/json",
    }
    assert {"200", "400", "413", "415", "422"} <= told["responses"].keys()
    assert "HTTPValidationError" not in json.dumps(told), "no refusal here has that form"


@pytest.mark.parametrize("top", ["0", "-1", "x", "1.5", "9" * 5000])
def test_a_number_of_classes_that_is_none_is_refused(server: Running, red: bytes, top: str) -> None:
    status, told, _ = ask(server, f"/predict?top={top}", red)
    assert status == 400 and f"received {top:.40}" in told["error"]


def test_half_of_a_character_is_answered_like_any_other_name(server: Running) -> None:
    status, told, _ = ask(server, "/predict", b'{"\\ud800": 1}', "application/json")
    assert status in (400, 422) and told["error"].startswith("expected ")


def test_a_body_that_is_too_large_takes_no_memory_and_is_answered(server: Running) -> None:
    process = psutil.Process(server.process.pid)
    before = process.memory_info().rss
    with ThreadPoolExecutor(8) as pool:
        bodies = [iter([bytes(MB)] * 6) if number % 2 else bytes(6 * MB) for number in range(24)]
        found = list(pool.map(lambda body: ask(server, "/predict", body)[0], bodies))
    assert found == [413] * 24
    assert process.memory_info().rss - before < 20 * MB


def test_more_images_than_a_request_may_have_are_refused(server: Running) -> None:
    files = [(str(number), b"x") for number in range(uploads.MOST_IMAGES + 1)]
    assert ask(server, "/predict", *form(*files))[0] in (400, 413)
    assert ask(server, "/predict", *as_json(images=["aGk="] * (uploads.MOST_IMAGES + 1)))[0] == 413


class Slow:
    """A request whose client sends a byte now and then."""

    def __init__(self, *parts: bytes) -> None:
        self.parts, self.headers = parts, dict[str, str]()

    async def stream(self) -> AsyncIterator[bytes]:
        for part in self.parts:
            yield part
        await asyncio.sleep(60)


@pytest.mark.parametrize(("idle", "whole"), [(0.05, 60), (60, 0.05)])
def test_a_client_that_sends_nothing_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, idle: float, whole: float
) -> None:
    monkeypatch.setattr(uploads, "IDLE_SECONDS", idle)
    monkeypatch.setattr(uploads, "BODY_SECONDS", whole)
    slow: Any = Slow(b"a", b"b")

    async def read() -> None:
        assert [part async for part in uploads.body(slow, 100)] == []

    with pytest.raises(RefusedError, match=r"expected the body within .*received 2 bytes") as refused:
        asyncio.run(read())
    assert refused.value.status == 408


def test_bodies_wait_until_there_is_room_for_them() -> None:
    async def scene() -> list[str]:
        room, said = uploads.Room(10), list[str]()

        async def hold(name: str, size: int) -> None:
            await room.take(size)
            said.append(name)
            await asyncio.sleep(0.01)
            await room.give_back(size)

        await asyncio.gather(hold("a", 8), hold("b", 8), hold("c", 2))
        return said

    assert asyncio.run(scene()) == ["a", "c", "b"]


# About the model, and about itself


def test_a_fault_of_the_server_is_counted() -> None:
    figures = monitoring.Figures([])

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError

    counted = monitoring.Counted(broken, figures, ["/predict"])
    with pytest.raises(RuntimeError):
        asyncio.run(counted({"type": "http", "path": "/predict"}, None, None))  # type: ignore[arg-type]
    assert b'thaw_requests_total{path="/predict",status="500"} 1.0' in figures.text()


def test_it_says_what_it_serves(server: Running, tiny_export: Path) -> None:
    assert ask(server, "/health")[:2] == (200, {"status": "ok"})
    assert ask(server, "/labels")[1] == {"classes": CLASSES}
    card = ask(server, "/card")[1]
    about = dict(formats.load(tiny_export).about)
    assert {name: card[name] for name in about} == about
    assert card["serving"] == {"request_bytes": MB, "image_pixels": 100_000, "images": uploads.MOST_IMAGES}


def test_prometheus_can_read_its_figures(server: Running, red: bytes) -> None:
    def figure(name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", ask(server, "/metrics")[1], re.MULTILINE)
        return float(found[1]) if found else 0.0

    names = (
        'thaw_requests_total{path="/predict",status="200"}',
        'thaw_requests_total{path="/predict",status="415"}',
        'thaw_answers_total{label="red"}',
        'thaw_images_refused_total{why="not_an_image"}',
        "thaw_request_seconds_count",
        'thaw_requests_total{path="other",status="404"}',
    )
    before = [figure(name) for name in names]
    for body in (red, red, JUNK):
        ask(server, "/predict", body)
    ask(server, f"/{uuid4()}")
    assert [figure(name) - was for name, was in zip(names, before, strict=True)] == [2, 1, 2, 1, 3, 1]
    assert figure("thaw_requests_running") == 0


def test_what_is_unlike_the_training_images_is_said_and_counted(
    scored_export: Path, green: bytes, blue: bytes
) -> None:
    with here(app.build(formats.load(scored_export), app.Limits(MB, 10**6))) as running:
        assert ask(running, "/card")[1]["unfamiliar"] == {"threshold": 100.0, "share": 0.05}
        told = [ask(running, "/predict?top=1", data)[1] for data in (blue, green, blue)]
        figures = ask(running, "/metrics")[1]
    assert [each["unfamiliar"] for each in told] == [True, False, True]
    assert [each["unfamiliarity"] > 1 for each in told] == [True, False, True]
    assert "thaw_unfamiliar_total 2.0" in figures


def test_the_page_needs_nothing_from_elsewhere_and_may_do_little(server: Running) -> None:
    status, html, headers = ask(server, "/")
    assert status == 200
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?!data:)[^"'\s)>]*//""", html)
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy and "http" not in policy


def test_a_class_may_be_called_anything() -> None:
    names = ["</script><script>alert(1)</script>", "/*script*/", "a\u2028b", '"', "<!--", "\\"]
    html, _ = page.of_server(names)
    (told,) = re.findall(r'<script type="application/json" id="classes">(.*?)</script>', html, re.DOTALL)
    assert json.loads(told) == names
    assert html.count("<script") == 2


# Many at once, and the end


def test_images_that_wait_together_are_run_by_size_and_each_gets_its_own() -> None:
    ran: list[tuple[int, ...]] = []

    def decode(data: bytes) -> np.ndarray:
        if data == b"bad":
            raise Unusable("damaged", "broken")
        return np.full((len(data), 2, 3), data[0], np.uint8)

    def run(pixels: np.ndarray) -> list[Answer]:
        if pixels.shape[1] == 7:
            raise MemoryError
        ran.append(pixels.shape)
        return answered(pixels[:, 0, 0, :2].astype(np.float32))

    model = Exported(["a", "b"], lambda _: [], decode=decode, run=run)
    waiting = batches.Batches(model, model.reading.max_pixels)
    files = [b"\1", b"\2\2", b"bad", b"\3", b"\4\4", b"\5" * 7, b"\6"]

    async def together() -> list[Any]:
        return list(await asyncio.gather(*map(waiting.answer, files), return_exceptions=True))

    found = asyncio.run(together())
    waiting.end()
    assert [type(each) for each in found] == [Answer, Answer, Unusable, Answer, Answer, MemoryError, Answer]
    assert [int(each.probabilities[0]) for each in found if isinstance(each, Answer)] == [1, 2, 3, 4, 6]
    assert sum(shape[0] for shape in ran) == 5 and max(shape[0] for shape in ran) <= batches.MOST
    assert not any(thread.is_alive() for thread in waiting.threads)


def test_an_image_that_the_model_fails_at_fails_no_other_one(green: bytes, red: bytes) -> None:
    sizes: list[int] = []

    def run(pixels: np.ndarray) -> list[Answer]:
        sizes.append(len(pixels))
        if (pixels[:, 0, 0, 0] == 7).any():
            raise RuntimeError("a kernel failed")
        return answered(pixels[:, 0, 0, :2].astype(np.float32) / 255)

    model = Exported(["a", "b"], lambda _: [], decode=lambda data: np.full((2, 2, 3), data[0], np.uint8), run=run)
    sent = [b"\1", b"\2", b"\7", b"\3", b"\4", b"\7", *[b"\5"] * 40]
    with here(app.build(model, app.Limits(MB, 100))) as running, ThreadPoolExecutor(len(sent)) as pool:
        alone = list(pool.map(lambda data: ask(running, "/predict", data)[:2], sent))
        body, kind = form(*((str(data[0]), data) for data in sent[:4]))
        told = ask(running, "/predict", body, kind)[1]["predictions"]
        figures = ask(running, "/metrics")[1]
    assert max(sizes) > 1, "some must have come together, or this test could not fail"
    for data, (status, said) in zip(sent, alone, strict=True):
        if data == b"\7":
            assert status == 500 and "received an error of the server (RuntimeError)" in said["error"]
        else:
            assert status == 200 and said["probability"] == pytest.approx(data[0] / 255)
    assert [each.get("status") for each in told] == [None, None, 500, None]
    assert 'thaw_images_refused_total{why="server_error"} 3.0' in figures


def test_requests_that_come_together_are_each_answered_as_if_alone(
    server: Running, red: bytes, green: bytes, expected: dict[bytes, Any]
) -> None:
    sent = [red, green, JUNK] * 40
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda data: ask(server, "/predict", data)[:2], sent))
    for data, (status, told) in zip(sent, found, strict=True):
        if data in expected:
            assert status == 200 and told["label"] == expected[data]["label"]
            assert told["probabilities"] == pytest.approx(expected[data]["probabilities"], abs=1e-6)
        else:
            assert status == 415


def test_a_server_that_is_told_to_end_finishes_what_runs(tiny_export: Path, red: bytes) -> None:
    with serving(tiny_export) as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=20) as half:
            half.sendall(f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(red)}\r\n\r\n".encode() + red[:9])
            while "thaw_requests_running 1.0" not in ask(running, "/metrics")[1]:
                pass
            running.process.send_signal(signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                running.process.wait(0.5)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", running.port), timeout=5)
            half.sendall(red[9:])
            reply = b""
            while block := half.recv(1 << 16):
                reply += block
        assert reply.startswith(b"HTTP/1.1 200") and b'"label": "red"' in reply
        assert running.process.wait(20) == 0
        assert running.process.stderr and running.process.stderr.read() == ""


def test_it_says_in_one_line_what_keeps_it_from_starting(server: Running, tiny_export: Path, tmp_path: Path) -> None:
    for words, said in (
        (["--model", str(tiny_export), "--port", str(server.port)], "expected a free address, received 127.0.0.1:"),
        (["--model", str(tiny_export), "--port", "70000"], "--port: expected 0 to 65535, received 70000"),
        (["--model", str(tmp_path)], "expected an exported model"),
    ):
        command = [sys.executable, "-m", "thaw.commands.cli", "serve", *words]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 1 and done.stdout == ""
        assert done.stderr.startswith("thaw serve: ") and said in done.stderr and done.stderr.count("\n") == 1
