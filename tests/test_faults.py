"""Faults that are made to happen, of those that no other test makes; docs/faults.md names all."""

import hashlib
import io
import itertools
import json
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from stages import prepare
from tests.serving import tiny
from thaw import paths, records
from thaw.data import validation_cache
from thaw.features import cache
from thaw.images import content

ROOT = Path(__file__).resolve().parents[1]
# Root may write what is read-only, and a full disk takes a disk: so both are mounts, in a namespace of their own.
ALONE = ("unshare", "--mount", "--map-root-user", "bash", "-euc")


def test_a_cache_that_is_deleted_while_it_is_read_gives_what_it_held(tmp_path: Path) -> None:
    entry = cache.Entry(tmp_path / ("0" * 32), (4,))
    rows = np.arange(40, dtype=np.float16).reshape(10, 4)
    names = [f"{number:064}" for number in range(10)]
    entry.append(names, rows)
    reader = cache.Reader([entry], [entry.find(names)])
    everything = np.arange(10), np.zeros(10, np.int64)
    assert np.array_equal(reader(*everything), rows)
    shutil.rmtree(tmp_path / ("0" * 32))
    assert np.array_equal(reader(*everything), rows)
    found = cache.Entry(tmp_path / ("0" * 32), (4,)).find(names)
    assert (found == -1).all()  # the next run computes them again


@pytest.fixture
def of_prepare(project: Path, tiny_images: Path) -> Path:
    assert tiny_images.is_relative_to(project)
    return project


@pytest.mark.usefixtures("of_prepare")
def test_too_few_file_handles_are_one_line_and_nothing_half_made_is_believed() -> None:
    words = [sys.executable, "-m", "stages.prepare"]
    limit = (
        "import resource, runpy, sys, os; import stages.prepare; "
        "used = len(os.listdir('/proc/self/fd')); resource.setrlimit(resource.RLIMIT_NOFILE, (used - 1, used - 1)); "
        "sys.argv = ['prepare']; runpy.run_module('stages.prepare', run_name='__main__')"
    )
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("needs /proc")
    assert resource.RLIMIT_NOFILE
    done = subprocess.run([sys.executable, "-c", limit], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert not paths.MANIFEST.exists()
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(records.read_csv(paths.MANIFEST)) == 36


@pytest.mark.usefixtures("of_prepare")
def test_of_two_runs_at_once_one_does_the_work_and_the_other_says_so_or_finds_it_done() -> None:
    words = ["dvc", "repro", "prepare"]
    both = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ))
        for _ in range(2)
    ]
    said = [process.communicate(timeout=300)[0] for process in both]
    codes = [process.returncode for process in both]
    assert 0 in codes, said
    for code, text in zip(codes, said, strict=True):
        assert code == 0 or "lock" in text.lower(), text
    locked = yaml.safe_load(Path("dvc.lock").read_text(encoding="utf-8"))
    assert len(records.read_csv(paths.MANIFEST)) == 36 and "prepare" in locked["stages"]
    rwlock = Path(".dvc/tmp/rwlock")
    assert not rwlock.exists() or not json.loads(rwlock.read_text() or "{}").get("write")
    again = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "didn't change, skipping" in again.stdout or "up to date" in again.stdout


def prepared() -> dict[str, bytes]:
    """All that `prepare` makes."""
    files = [path for path in paths.PREPARED.rglob("*") if path.is_file()]
    return {path.as_posix(): path.read_bytes() for path in [*files, paths.MEMORY, paths.metrics("prepare")]}


@pytest.mark.usefixtures("of_prepare")
def test_a_clock_that_is_set_back_changes_nothing_that_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    prepare.main()
    expected, now, looks = prepared(), time.time(), itertools.count()
    for image in Path("data/raw").rglob("*.png"):
        os.utime(image, (now + 1e6, now + 1e6))  # written when the clock went before
    monkeypatch.setattr(time, "time", lambda: now - 86400 * next(looks))
    prepare.main()
    assert prepared() == expected


@pytest.mark.usefixtures("of_prepare")
def test_a_machine_that_sleeps_goes_on_where_it_was() -> None:
    prepare.main()
    expected = prepared()
    shutil.rmtree(paths.PREPARED)
    words = [sys.executable, "-m", "stages.prepare"]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        naps = 0
        while process.poll() is None and naps < 500:
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.2)
            process.send_signal(signal.SIGCONT)
            time.sleep(0.1)
            naps += 1
        _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert naps > 1 and prepared() == expected


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a database as a process does that writes for long."""
    held = sqlite3.connect(path)
    held.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        held.close()


@pytest.mark.usefixtures("of_prepare")
def test_a_memo_that_another_process_holds_costs_time_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare.main()
    expected = prepared()
    monkeypatch.setattr(validation_cache, "WAIT", 0.2)  # seconds, in place of half a minute
    capsys.readouterr()
    with locked(Path(".thaw/triage/judgements.sqlite")):
        prepare.main()
    assert prepared() == expected and "it is not used" in capsys.readouterr().err
    prepare.main()
    assert prepared() == expected and "it is not used" not in capsys.readouterr().err


def alone(script: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a script of the shell with mounts of its own, which it is told as $1 and on."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([*ALONE, "true"], capture_output=True, check=False) if shutil.which(ALONE[0]) else None
    if done is None or done.returncode:
        pytest.skip("needs a system that lets a process have mounts of its own")
    command = [*ALONE, script, "sh", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_read_only_images_are_enough_and_a_read_only_project_is_one_line(of_prepare: Path) -> None:
    script = (
        'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; ! touch "$1/new" 2>&1; exec "$2" -m stages.prepare'
    )
    done = alone(script, "data/raw", sys.executable)
    assert done.returncode == 0 and "Read-only" in done.stdout, done
    expected = prepared()
    assert len(records.read_csv(paths.MANIFEST)) == 36

    before = {path: path.stat().st_mtime_ns for path in of_prepare.rglob("*")}
    done = alone(script.replace("exec", 'cd "$1"; exec'), str(of_prepare), sys.executable)
    assert done.returncode == 1 and done.stderr.strip().count("\n") <= 1, done  # the memo's warning, and the error
    assert "Read-only" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert {path: path.stat().st_mtime_ns for path in of_prepare.rglob("*")} == before and prepared() == expected


PROOF = """
import sys, tempfile
from pathlib import Path
import numpy as np
from thaw import pipes
from thaw.config import schema
from thaw.exports import parity

folder, image, forced = sys.argv[1:]
tempfile.tempdir = forced or None  # it has filled after it was chosen
options = schema.Export(**EXPORT)
probes = parity.Probes([image], np.array([[0.5, 0.5]], np.float32))
pipes.run(lambda: print(parity.check(Path(folder), probes, CLASSES, options)), "export")
"""


def test_a_full_temporary_folder_is_passed_over_or_said_in_one_line(tmp_path: Path) -> None:
    export, full, image = tmp_path / "export", tmp_path / "full", tmp_path / "grey.png"
    export.mkdir()
    full.mkdir()
    tiny.write(export / paths.ONNX_FILE)
    Image.new("RGB", (8, 8), (99, 99, 0)).save(image)
    given = yaml.safe_load((ROOT / "conf" / "export" / "default.yaml").read_text(encoding="utf-8"))
    code = PROOF.replace("**EXPORT", f"**{given!r}").replace("CLASSES", repr(tiny.CLASSES))
    script = (
        'mount -t tmpfs -o size=16k none "$1"; head -c 99999 /dev/zero > "$1/it" 2> /dev/null || true; '
        'TMPDIR="$1" exec "$2" -c "$3" "$4" "$5" "$6"'
    )
    words = (str(full), sys.executable, code, str(export), str(image))
    done = alone(script, *words, "")
    assert done.returncode == 0 and "largest_difference" in done.stdout, done
    done = alone(script, *words, str(full))
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done
    assert "No space left on device" in done.stderr and str(full) in done.stderr


def test_an_image_that_changes_while_it_is_read_is_one_of_its_states_or_noticed(of_prepare: Path) -> None:
    image, states = of_prepare / "data" / "raw" / "class_1" / "03.png", list[bytes]()
    for shade in (10, 20):
        pixels = np.random.default_rng(shade).integers(0, 255, (200, 200, 3)).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        states.append(buffer.getvalue())
    done = threading.Event()

    def change() -> None:
        for state in itertools.cycle(states):
            with image.open("r+b") as file:  # in place and in parts, as a copy goes
                file.truncate(0)
                for start in range(0, len(state), 20_000):
                    file.write(state[start : start + 20_000])
                    file.flush()
            if done.is_set():
                break

    writer = threading.Thread(target=change)
    writer.start()
    seen = list[str]()
    try:
        for _ in range(10):
            prepare.main()
            rows = {row["path"]: row["sha256"] for row in records.read_csv(paths.MANIFEST)}
            left = {row["path"] for row in records.read_csv(paths.QUARANTINE)}
            seen.append(rows.get("class_1/03.png", ""))
            assert seen[-1] or "class_1/03.png" in left
            assert len(rows) == 36 - (not seen[-1])
    finally:
        done.set()
        writer.join()
    whole = {records.sha256(image)} | {hashlib.sha256(state).hexdigest() for state in states}
    assert set(seen) <= whole | {""}
    image.write_bytes(states[0][:-1])
    for sha256 in filter(None, seen):
        with pytest.raises(ValueError, match="it holds other bytes"):
            content.prepared(str(image), sha256)
