"""Faults that are made to happen, of those that no other test makes; docs/faults.md names all."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from thaw import paths, records
from thaw.features import cache


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
