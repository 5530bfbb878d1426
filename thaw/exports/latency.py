"""Size and speed of exported formats: bytes, cold start, latency, throughput and memory, each in a fresh process.

``python -m thaw.exports.latency FOLDER FORMAT LIST`` is that process. What is timed begins with a file's bytes:
decoding is a part of an answer. None of it is in a file that DVC hashes, since no two runs take as long. Where other
programs have the cores, seconds pass all the same; the processor's own time changes less.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil

from thaw.exports import formats
from thaw.exports.exported import Exported

ASKED = 100  # images one by one, for the percentiles, after ``WARM``
WARM = 5
BATCH, BATCHES = 32, 5  # at once and how often, for the throughput


@dataclass(frozen=True)
class Latency:
    """What a format costs on this machine."""

    bytes: int  # of the file, or of all files of the folder
    cold_start: float  # seconds from the start of a process to its first answer
    p50: float  # milliseconds of an image by itself, half of them
    p95: float  # milliseconds of an image by itself, 95 % of them
    throughput: float  # images a second, 32 at once
    processor: float  # milliseconds that all cores spend on an image by itself, half of them
    processor_start: float  # seconds that they spend from the start of a process to its first answer
    memory: int  # bytes, the most that the process had

    def described(self) -> str:
        """Return the figures as text."""
        return (
            f"{self.bytes / 1e6:.1f} MB, cold start {self.cold_start:.2f} s, {self.p50:.2f} ms an image "
            f"(95 %: {self.p95:.2f} ms), {self.throughput:,.0f} images/s, {self.processor:.2f} ms of the processor an "
            f"image, {self.processor_start:.2f} s to the first, {self.memory / 1e6:,.0f} MB of memory"
        )


def measure(folder: Path, name: str, files: Sequence[str]) -> Latency:
    """Measure one format of a folder that the stage `export` wrote.

    Args:
        folder: the folder.
        name: the format.
        files: image files, asked about in turn.
    """
    with tempfile.TemporaryDirectory() as scratch:
        listed = Path(scratch, "paths.json")
        listed.write_text(json.dumps(list(files)), encoding="utf-8")
        command = [sys.executable, "-m", "thaw.exports.latency", str(folder), name, str(listed)]
        start = time.time()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{folder}: expected format {name} to answer, but {done.stderr.strip().splitlines()[-1:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    cold_start = found.pop("first") - start
    return Latency(bytes=size(folder / formats.FORMATS[name].about.file), cold_start=cold_start, **found)


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder."""
    return sum(each.stat().st_size for each in ([path] if path.is_file() else path.rglob("*")) if each.is_file())


def table(found: dict[str, Latency]) -> dict[str, dict[str, float]]:
    """Return the figures as a record."""
    return {name: asdict(each) for name, each in found.items()}


def main() -> None:
    """Load one format, ask it, and print what that took."""
    folder, name, listed = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    files = [Path(file).read_bytes() for file in json.loads(listed.read_text(encoding="utf-8"))]
    loaded = formats.load(folder, name)
    loaded.answer(files[:1])
    first, processor_start = time.time(), time.process_time()
    took = np.array([_seconds(loaded, [files[number % len(files)]]) for number in range(WARM + ASKED)][WARM:])
    batch = [files[number % len(files)] for number in range(BATCH)]
    loaded.answer(batch)
    whole = sum(_seconds(loaded, batch)[0] for _ in range(BATCHES))
    (p50, processor), (p95, _) = np.percentile(took, (50, 95), axis=0) * 1e3
    speed = {"p50": p50, "p95": p95, "throughput": BATCH * BATCHES / whole, "processor": processor}
    print(json.dumps({"first": first, "memory": _peak(), "processor_start": processor_start, **speed}))


def _seconds(loaded: Exported, files: Sequence[bytes]) -> tuple[float, float]:
    """Return how long an answer takes, and how much of the processor: all threads'."""
    start, before = time.perf_counter(), time.process_time()
    loaded.answer(files)
    return time.perf_counter() - start, time.process_time() - before


def _peak() -> int:
    """Return the most memory that this process had, in bytes; on Linux without what its parent had."""
    status = Path("/proc/self/status")
    if status.is_file():
        (line,) = (line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource  # noqa: PLC0415 -- not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()
