"""Ask `thaw predict` about 10,000 files: ``python -m benchmarks.predict [--model DIR] [--files N]``.

The files are JPEGs and PNGs of four sizes. What a file takes of the processor is compared with what decoding and the
engine take of it alone, with the files' bytes in memory. It fails if an answer is missing or another than the model
gives here, or if the memory of the process grows from one half of the files to the other.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks import record
from benchmarks.serving import GROWTH, NEAR, WARM, pictures
from thaw import paths
from thaw.exports import exported, formats
from thaw.serving import answers


def ask(model: Path, folder: Path, answered: Path, count: int) -> tuple[float, list[int]]:
    """Run the command; return its seconds, and the bytes that it had in memory once a tenth was answered."""
    words = [sys.executable, "-m", "thaw.commands.cli", "predict", str(folder), "--model", str(model), "--csv"]
    memory: list[int] = []
    start = time.perf_counter()
    with answered.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        watched, lines = psutil.Process(process.pid), 0

        def watch() -> None:
            while process.poll() is None:
                if lines > WARM * count:
                    memory.append(watched.memory_info().rss)
                time.sleep(0.02)

        thread = threading.Thread(target=watch)
        thread.start()
        assert process.stdout is not None  # noqa: S101 -- it is a pipe
        for line in process.stdout:
            out.write(line)
            lines += 1
        code = process.wait()
        thread.join()
    if code:
        sys.exit(f"predict: expected exit code 0, received {code}")
    return time.perf_counter() - start, memory


def alone(model: exported.Exported, files: Sequence[bytes]) -> dict[str, float]:
    """Return the milliseconds of the processor that decoding and the engine take for a file, each by itself."""
    if model.decode is None or model.run is None:  # the model decodes in its graph
        return {}
    start = time.process_time()
    pictures = [model.decode(data) for data in files]
    decoded = time.process_time()
    for picture in pictures:
        model.run(picture[None])
    ended = time.process_time()
    return {
        "decoding, ms": (decoded - start) / len(files) * 1e3,
        "engine, ms": (ended - decoded) / len(files) * 1e3,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", type=Path, default=paths.EXPORTED)
    parser.add_argument("--files", type=int, default=10_000)
    options = parser.parse_args()
    different = list(pictures())
    loaded = formats.load(options.model)
    expected = [answers.answer(loaded, data) for data in different]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "images")
        folder.mkdir()
        for number in range(options.files):
            (folder / f"{number:06}").write_bytes(different[number % len(different)])
        before = _children()
        seconds, memory = ask(options.model, folder, Path(scratch, "answers.csv"), options.files)
        spent = (_children() - before) / options.files * 1e3
        with Path(scratch, "answers.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    wrong = 0
    for row in rows:
        right = expected[int(Path(row["path"]).name) % len(different)]
        same = row["label"] == loaded.classes[int(right.argmax())]
        wrong += not same or abs(float(row["probability"]) - float(right.max())) > NEAR
    half = len(memory) // 2
    first, second = max(memory[:half]) / 2**20, max(memory[half:]) / 2**20
    row = {"files": len(rows), "a second": len(rows) / seconds, "MB, first half": first, "MB, second half": second}
    row |= {"processor, ms a file": spent, **alone(loaded, different)}
    record.write("predict", f"{options.files:,} files through thaw predict", [row | {"wrong": wrong}])
    if wrong or len(rows) != options.files:
        sys.exit(f"predict: {wrong} wrong answers, {options.files - len(rows)} missing ones")
    if second > GROWTH * first:
        sys.exit(f"predict: memory grew from {first:.0f} to {second:.0f} MB")


def _children() -> float:
    """Return the seconds that the processor has spent on processes that this one started and that have ended."""
    times = psutil.Process().cpu_times()
    return float(times.children_user + times.children_system)


if __name__ == "__main__":
    main()
