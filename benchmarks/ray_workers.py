"""Measure one run's judging and extraction on 1, 2 and 4 workers of a local Ray cluster, against one process.

``python -m benchmarks.ray_workers --data DIR --images 1000``. Each has one thread, so that workers are what differs,
and begins with empty memos. Bytes of what `prepare` writes and of all cached activations are compared. Seconds of the
clock mean something only beside those of the run before, and workers beyond the machine's cores gain nothing.
"""

import argparse
import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import yaml

from benchmarks import record
from stages import prepare
from thaw import paths
from thaw.classifier import model
from thaw.config import load, schema
from thaw.features import extraction
from thaw.features.frozen import Frozen
from thaw.images import manifest
from thaw.networks import freeze_boundaries


def spent() -> float:
    """Return the seconds of the processor of this process and all that it has started."""
    own = psutil.Process()
    total = 0.0
    for each in (own, *own.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            total += sum(each.cpu_times()[:2])
    return total


def measure(params: schema.Project, values: dict[str, object]) -> dict[str, object]:
    """Run both in the folder that this is called in; return seconds and hashes."""
    paths.PARAMS.write_text(yaml.safe_dump(values), encoding="utf-8")
    clock, computing = time.monotonic(), spent()
    prepare.main()
    row: dict[str, object] = {"prepare s": time.monotonic() - clock, "prepare computing s": spent() - computing}
    digest = hashlib.sha256()
    for path in (paths.MANIFEST, paths.CLASSES, paths.QUARANTINE, paths.MEMORY, paths.metrics("prepare")):
        digest.update(path.read_bytes())
    row["prepare's bytes"] = digest.hexdigest()[:12]

    train, val = manifest.read(params.data.raw, "train", "val")
    card = model.Card(params.backbone, "benchmark", params.image, params.head, ["a", "b"])
    classifier = model.build(card, weights=params.backbone.weights)
    cut = freeze_boundaries.find(classifier.backbone, params.phase2.unfreeze_spec)
    layers, _ = freeze_boundaries.split(classifier.backbone, cut)
    frozen = Frozen(layers, [cut.tensor_layer], "benchmark", params.image, params.augment, params.compute)
    clock, computing = time.monotonic(), spent()
    extraction.cached(frozen, [(train, frozen.views()), (val, 1)])
    row |= {"extraction s": time.monotonic() - clock, "extraction computing s": spent() - computing}
    digest = hashlib.sha256()
    for split, views, readers in zip(
        (train, val), (frozen.views(), 1), extraction.cached(frozen, [(train, frozen.views()), (val, 1)]), strict=True
    ):
        for view in range(views):
            places = np.arange(len(split)), np.full(len(split), view)
            digest.update(readers[0].half(*places).tobytes())
    row |= {"views": len(train) * frozen.views() + len(val), "activations' bytes": digest.hexdigest()[:12]}
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with one folder per class")
    parser.add_argument("--images", type=int, default=1000, help="of each class as many")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4], help="0: one process, without Ray")
    options = parser.parse_args()
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        if os.environ.get(name) != "1":
            parser.error(f"expected {name}=1 in the environment, so that a worker takes one core")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch) / "raw"
        folders = sorted(path for path in options.data.iterdir() if path.is_dir())
        for folder in folders:
            (raw / folder.name).mkdir(parents=True)
            files = sorted(path for path in folder.iterdir() if path.is_file())
            for path in files[: options.images // len(folders)]:
                shutil.copy2(path, raw / folder.name)
        text = load.compose(["data=folder", f"data.raw={raw}", "phase2.unfreeze=30%", "tracking.enabled=false"], ())
        for workers in options.workers:
            values = yaml.safe_load(text)
            values["compute"] |= {
                "ray": "auto" if workers else "",
                "cache_dir": str(Path(scratch) / f"cache{workers}"),
            }
            folder = Path(scratch) / f"project{workers}"
            folder.mkdir()
            with contextlib.chdir(folder), cluster_of(workers):
                rows.append({"workers": workers, **measure(load.check(values), values)})
                print(rows[-1], flush=True)  # a later cluster may not come up
    record.write("ray_workers", f"{len(list(raw.rglob('*.*')))} images of {options.data.name}", rows)


@contextlib.contextmanager
def cluster_of(workers: int) -> Iterator[None]:
    """Start a cluster with room for so many workers of one core; none of 0."""
    if not workers:
        yield
        return
    import ray  # noqa: PLC0415 -- an extra

    passed_on = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "TF_CPP_MIN_LOG_LEVEL")
    variables = {name: os.environ[name] for name in passed_on if name in os.environ}
    variables["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    environment = {"env_vars": variables}
    ray.init(address="local", num_cpus=workers, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    try:
        yield
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
