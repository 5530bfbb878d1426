"""A run on a real Ray cluster of several worker processes, one of them killed half way: the bytes of one process."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import yaml

from stages import prepare
from tests.conftest import make_images
from tests.features import test_extraction as alone
from thaw import paths
from thaw.classifier import model
from thaw.config import composition
from thaw.data import validation_on_ray
from thaw.features import cache, extraction, layer_outputs
from thaw.runtime import cluster

ray = pytest.importorskip("ray", reason="an extra")
ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("processor")]


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.setenv("RAY_worker_niceness", "0")  # Ray's own is 15, which gets nothing of a busy machine
    patch.setenv("TF_NUM_INTRAOP_THREADS", "1")
    variables = {"PYTHONPATH": str(ROOT), "TF_NUM_INTRAOP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": variables}
    )
    yield
    ray.shutdown()
    patch.undo()


def kill_a_worker_when(begun: Path, killed: list[int], ended: threading.Event) -> threading.Thread:
    """Kill one of this process's workers once rows are there."""

    def kill() -> None:
        while not ended.wait(0.01):
            if not any(path.stat().st_size for path in begun.rglob("rows.f16")):
                continue
            if found := workers():
                killed.append(found[0])
                os.kill(found[0], signal.SIGKILL)
                return

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def test_extraction_by_workers_has_the_bytes_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = alone.some_images(tmp_path / "raw", 90)
    one, many = alone.frozen(tmp_path / "one"), alone.frozen(tmp_path / "many")
    monkeypatch.setattr(layer_outputs, "ON_CLUSTER", 4 * 3 * sum(many.row_bytes()))  # a batch: 23 parts
    many.compute.ray = "auto"
    killed: list[int] = []
    ended = threading.Event()
    thread = kill_a_worker_when(tmp_path / "many", killed, ended)
    found = extraction.cached(many, [(split, 3)])
    ended.set()
    thread.join()
    assert killed, "no worker was killed, so nothing is shown"
    expected = extraction.cached(one, [(split, 3)])
    for reader, other in zip(found[0], expected[0], strict=True):
        for view in range(3):
            places = np.arange(90), np.full(90, view)
            assert reader.half(*places).tobytes() == other.half(*places).tobytes()
    for entry in (cache.folder(str(tmp_path / "many" / "cache"))).glob("*/index.csv"):
        assert len(cache.split(entry.read_bytes())) == 90  # nothing twice


def workers() -> list[int]:
    """The processes of this process's cluster that work."""
    found = psutil.Process().children(recursive=True)
    alive = [each for each in found if each.status() != psutil.STATUS_ZOMBIE]
    return [each.pid for each in alive if "".join(each.cmdline()[:1]).startswith("ray::_Worker")]


def written() -> dict[str, bytes]:
    """All that the stages have written here."""
    files = [*paths.PREPARED.rglob("*"), *paths.METRICS.rglob("*"), *paths.PHASE1.parent.rglob("*"), paths.MEMORY]
    return {path.as_posix(): path.read_bytes() for path in files if path.is_file()}


def settled_images(folder: Path) -> Path:
    """Images, some bad ones and a copy among them, changed a while ago: else their hashes would not be kept."""
    raw = make_images(folder, per_class=20)
    (raw / "class_0" / "broken.png").write_bytes(b"no picture")
    (raw / "class_1" / "empty.jpg").write_bytes(b"")
    (raw / "class_2" / "copy.png").write_bytes((raw / "class_2" / "00.png").read_bytes())
    for path in raw.rglob("*.*"):
        os.utime(path, (1e9, 1e9))
    time.sleep(2.2)
    return raw


def test_prepare_by_workers_has_the_bytes_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = settled_images(tmp_path / "raw")
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["tracking"]["enabled"] = False
    params["data"]["raw"] = str(raw)
    monkeypatch.setattr(validation_on_ray, "PART", 5)
    done, looked = cluster.done, list[int]()
    killed: list[int] = []

    def disturbed(*given: Any) -> Iterator[tuple[int, Any]]:
        looked.append(len(given[-1]))
        for number, found in done(*given):
            if not killed:
                killed.append(workers()[0])
                os.kill(killed[0], signal.SIGKILL)
            yield number, found

    monkeypatch.setattr(cluster, "done", disturbed)
    made = {}
    for address in ("", "auto"):
        folder = tmp_path / f"project{address}"
        folder.mkdir()
        monkeypatch.chdir(folder)
        params["compute"]["ray"] = address
        (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        prepare.main()
        made[address] = written()
    assert made[""] == made["auto"] and len(made[""]) > 5
    assert looked == [13] and killed  # parts of five of 63 files


def test_a_cluster_of_the_stage_s_own_makes_what_one_process_makes(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`compute.ray=local`, as a person would run it: each stage in a process of its own, which starts its cluster."""
    raw = settled_images(tmp_path / "raw")
    environment = os.environ | {"TF_NUM_INTRAOP_THREADS": "1"}
    made = {}
    for address in ("", "local"):
        for folder in (".thaw", paths.PREPARED, paths.PHASE1.parent, paths.METRICS):
            shutil.rmtree(folder, ignore_errors=True)
        paths.MEMORY.unlink(missing_ok=True)
        chosen = ("image=px64", "augment.views=2", "phase1.epochs=2", "tracking.enabled=false")
        composition.configure(["data=folder", f"data.raw={raw}", *chosen, f"compute.ray={address}"])
        for stage in ("prepare", "environment", "phase1_head"):
            words = [sys.executable, "-m", f"stages.{stage}"]
            done = subprocess.run(words, env=environment, check=False, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
        made[address] = written()
    assert made[""] == made["local"] and (paths.PHASE1 / model.WEIGHTS).as_posix() in made[""]
