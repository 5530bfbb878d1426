"""Load `thaw serve` on loopback: ``python -m benchmarks.serving [--model DIR] [--requests N] [--at-once N]``.

Starts the server on a free port and sends requests from this process, so many at a time, over connections that are
kept. A share of them is bad, each in one of several ways. It fails if a request is lost, if a good one gets anything
but the answer that the model gives here, if a bad one gets anything but its status with one line, if the server's
memory grows from one half of the test to the other, or if it does not end in order.
"""

import argparse
import asyncio
import io
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from benchmarks import record
from thaw import paths
from thaw.exports import formats
from thaw.serving import answers

SIZES = ((64, 64), (90, 60), (320, 240), (640, 480))  # width and height of the images that are sent
EACH = 8  # different images of a size
MOST_MB = 1
WARM = 0.1  # of the requests, before memory is looked at
NEAR = 1e-5  # what a probability may differ by: the last bits go by the batch
GROWTH = 1.1  # that the peak of the second half may have over that of the first


@dataclass(frozen=True)
class Sent:
    """A request, and what must come of it."""

    body: bytes
    status: int
    label: str  # empty where there is none
    probability: float


@dataclass(frozen=True)
class Received:
    """The outcome of a request."""

    sent: Sent
    status: int  # 0: nothing came
    told: dict[str, object]
    seconds: float


def pictures() -> Iterator[bytes]:
    """Yield JPEGs and PNGs of blurred noise, each like no other."""
    for width, height in SIZES:
        for seed in range(EACH):
            noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
            buffer = io.BytesIO()
            picture = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
            picture.save(buffer, "PNG" if seed % 4 == 0 else "JPEG", quality=90)
            yield buffer.getvalue()


def requests(model: Path, count: int, bad: float) -> list[Sent]:
    """Return so many requests, a share of them bad, in an order of chance."""
    loaded, good = formats.load(model), []
    for data in pictures():
        row = answers.answer(loaded, data)
        good.append(Sent(data, 200, loaded.classes[int(row.argmax())], float(row.max())))
    whole = good[-1].body
    faults = [
        Sent(b"", 400, "", 0),
        Sent(b"no image", 415, "", 0),
        Sent(whole[: len(whole) // 2], 422, "", 0),
        Sent(bytes(MOST_MB * 2**20 + 1), 413, "", 0),
    ]
    chance = np.random.default_rng(0)
    is_bad = chance.permutation(count) < round(bad * count)
    picks = chance.integers(0, 1 << 30, count)
    return [
        (faults if wrong else good)[pick % len(faults if wrong else good)]
        for wrong, pick in zip(is_bad, picks, strict=True)
    ]


async def send(port: int, waiting: Iterator[Sent], results: list[Received]) -> None:
    """Send requests one after another over one connection, which is opened again where the server closed it."""
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    for sent in waiting:
        start = time.perf_counter()
        status, told = 0, {}
        try:
            if streams is None:
                streams = await asyncio.open_connection("127.0.0.1", port)
            reader, writer = streams
            head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(sent.body)}\r\n\r\n"
            writer.write(head.encode() + sent.body)
            lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = re.search(r"content-length: (\d+)", lines)
            body = await reader.readexactly(int(length[1]) if length else 0)
            status, told = int(lines.split(" ")[1]), json.loads(body)
            if "connection: close" in lines:
                writer.close()
                streams = None
        except (OSError, EOFError, ValueError):
            streams = None
        results.append(Received(sent, status, told, time.perf_counter() - start))


async def load(port: int, process: psutil.Process, sent: list[Sent], at_once: int) -> tuple[list[Received], list[int]]:
    """Send all requests; return what came of them, and the server's memory in bytes, 20 times a second."""
    results: list[Received] = []
    memory: list[int] = []

    async def watch() -> None:
        while True:
            if len(results) > WARM * len(sent):
                memory.append(process.memory_info().rss)
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    waiting = iter(sent)
    await asyncio.gather(*(send(port, waiting, results) for _ in range(at_once)))
    watching.cancel()
    return results, memory


def wrong(results: list[Received]) -> Counter[str]:
    """Count what should not be, by what it is."""
    found: Counter[str] = Counter()
    for each in results:
        if each.status == 0:
            found["lost"] += 1
        elif each.status != each.sent.status:
            found[f"status {each.status} for {each.sent.status}"] += 1
        elif each.status == 200:
            off = abs(float(str(each.told["probability"])) - each.sent.probability)
            found["another answer"] += each.told["label"] != each.sent.label or off > NEAR
        else:
            found["an error of another form"] += list(each.told) != ["error"] or "\n" in str(each.told["error"])
    return +found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, default=paths.EXPORTED)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--at-once", type=int, default=32)
    parser.add_argument("--bad", type=float, default=0.05)
    options = parser.parse_args()
    sent = requests(options.model, options.requests, options.bad)
    words = [sys.executable, "-m", "thaw.commands.cli", "serve", "--model", str(options.model), "--port", "0"]
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen([*words, "--max-mb", str(MOST_MB)], stderr=subprocess.PIPE, stdout=log, text=True)
        try:
            assert server.stderr is not None  # noqa: S101 -- it is a pipe
            port = int(server.stderr.readline().rpartition(":")[2].split()[0])
            start = time.perf_counter()
            results, memory = asyncio.run(load(port, psutil.Process(server.pid), sent, options.at_once))
            seconds = time.perf_counter() - start
        finally:
            server.send_signal(signal.SIGTERM)
            code = server.wait(60)
    half = len(memory) // 2
    first, second = max(memory[:half]) / 2**20, max(memory[half:]) / 2**20
    times = np.array([each.seconds for each in results if each.status == 200]) * 1000
    row = {
        "requests": len(results),
        "bad": sum(each.sent.status != 200 for each in results),
        "a second": len(results) / seconds,
        "p50 ms": float(np.quantile(times, 0.5)),
        "p95 ms": float(np.quantile(times, 0.95)),
        "p99 ms": float(np.quantile(times, 0.99)),
        "MB, first half": first,
        "MB, second half": second,
    }
    record.write("serving", f"{options.at_once} requests at a time", [row], wrong=dict(wrong(results)))
    said = [f"{count} times {what}" for what, count in wrong(results).items()]
    if second > GROWTH * first:
        said.append(f"memory grew from {first:.0f} to {second:.0f} MB")
    if code:
        said.append(f"the server ended with code {code}")
    if said or len(results) != options.requests:
        sys.exit(f"serving: {'; '.join(said) or 'requests are missing'}")


if __name__ == "__main__":
    main()
