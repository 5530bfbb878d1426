"""A run on a real Ray cluster of several worker processes, one of them killed half way: the bytes of one process."""

import os
import signal
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
from thaw.data import validation_on_ray
from thaw.features import cache, extraction
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
            workers = [
                each
                for each in psutil.Process().children(recursive=True)
                if each.status() != psutil.STATUS_ZOMBIE and "".join(each.cmdline()[:1]).startswith("ray::_Worker")
            ]
            if workers:
                killed.append(workers[0].pid)
                os.kill(workers[0].pid, signal.SIGKILL)
                return

    thread = threading.Thread(target=kill)
    thread.start()
    return thread


def test_extraction_by_workers_has_the_bytes_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    split = alone.some_images(tmp_path / "raw", 90)
    one, many = alone.frozen(tmp_path / "one"), alone.frozen(tmp_path / "many")
    monkeypatch.setattr(extraction, "ON_CLUSTER", 4 * 3 * sum(many.row_bytes()))  # a batch: 23 parts
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


def test_prepare_by_workers_has_the_bytes_of_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = make_images(tmp_path / "raw", per_class=20)
    (raw / "class_0" / "broken.png").write_bytes(b"no picture")
    (raw / "class_1" / "empty.jpg").write_bytes(b"")
    (raw / "class_2" / "copy.png").write_bytes((raw / "class_2" / "00.png").read_bytes())
    for path in raw.rglob("*.*"):
        os.utime(path, (1e9, 1e9))
    time.sleep(2.2)  # hashes of files that were changed just now are not kept
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["tracking"]["enabled"] = False
    params["data"]["raw"] = str(raw)
    monkeypatch.setattr(validation_on_ray, "PART", 5)
    done, looked = cluster.done, []

    def counted(*given: Any) -> Iterator[tuple[int, Any]]:
        looked.append(len(given[-1]))
        return done(*given)

    monkeypatch.setattr(cluster, "done", counted)
    written = {}
    for address in ("", "auto"):
        folder = tmp_path / f"project{address}"
        folder.mkdir()
        monkeypatch.chdir(folder)
        params["compute"]["ray"] = address
        (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
        prepare.main()
        files = [*paths.PREPARED.rglob("*"), *paths.METRICS.rglob("*"), paths.MEMORY]
        written[address] = {path.as_posix(): path.read_bytes() for path in files if path.is_file()}
    assert written[""] == written["auto"] and len(written[""]) > 5
    assert looked == [13]  # parts of five of 63 files
