import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

import thaw
from tests.features import computing
from thaw import records
from thaw.config import schema
from thaw.features import cache, engines, extraction, packs, store
from thaw.features.frozen import Frozen
from thaw.images import augment, manifest, preprocessing
from thaw.runtime import code_version
from thaw.runtime.framework import keras, tf

# On a GPU too: what is special there has tests of its own.
pytestmark = pytest.mark.usefixtures("processor")

SIZE = schema.Image(32, "squash", "bilinear", antialias=True)
LIGHT = schema.Augment(
    views=3,
    horizontal_flip=True,
    vertical_flip=False,
    quarter_turns=False,
    rotation=10,
    zoom=0.1,
    translation=0.05,
    brightness=0.1,
    contrast=0.1,
    seed=0,
)
CLEAN = schema.Augment(1, False, False, False, 0, 0, 0, 0, 0, 0)


def network(scale: float = 1) -> keras.Model:
    """A small backbone: the same in every process, with an output in the middle and one at the end."""
    pixels = keras.Input((32, 32, 3))
    start = keras.initializers.HeNormal(seed=0)
    scaled = keras.layers.Rescaling(scale / 128, offset=-scale)(pixels)
    middle = keras.layers.Conv2D(6, 5, strides=4, activation="relu", kernel_initializer=start)(scaled)
    end = keras.layers.Conv2D(10, 3, activation="relu", kernel_initializer=start)(middle)
    return keras.Model(pixels, [keras.layers.GlobalAveragePooling2D()(end), middle])


NETWORK = network()


def frozen(folder: Path, cuts: str = "pool middle", settings: schema.Augment = LIGHT) -> Frozen:
    outputs = dict(zip(("pool", "middle"), NETWORK.outputs, strict=True))
    compute = computing.settings(folder)
    model = keras.Model(NETWORK.input, [outputs[cut] for cut in cuts.split()])
    return Frozen(model, cuts.split(), "sha256 of weights", SIZE, settings, compute)


def some_images(folder: Path, count: int) -> manifest.Images:
    """Seeded PNG files; the first are the same for every count."""
    folder.mkdir(exist_ok=True)
    random = np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(count)]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (24, 40, 3), dtype=np.uint8)).save(path)
    names = [path.name for path in paths]
    hashes = [records.sha256(path) for path in paths]
    return manifest.Images([str(path) for path in paths], names, hashes, np.zeros(count, np.int64))


def part(split: manifest.Images, chosen: slice) -> manifest.Images:
    return manifest.Images(split.paths[chosen], split.names[chosen], split.hashes[chosen], split.labels[chosen])


def values(reader: cache.Reader, count: int, view: int = 0) -> np.ndarray:
    return reader(np.arange(count), np.full(count, view))


def expected(split: manifest.Images, settings: schema.Augment, view: int) -> list[np.ndarray]:
    """What Keras itself computes."""
    load = preprocessing.load(SIZE)
    pixels = np.stack([load(tf.io.read_file(path)) for path in split.paths])
    if view:
        pixels = augment.view(settings)(pixels, augment.view_seeds(settings, split.hashes, [view] * len(split)))
    return [np.asarray(output) for output in NETWORK(pixels, training=False)]


def assert_stored(found: np.ndarray, output: np.ndarray) -> None:
    """That they are equal but for storing in fp16: it keeps 11 bits, half a unit in the last place is 2**-11."""
    assert found.shape == output.shape
    np.testing.assert_allclose(found, output, rtol=2**-11, atol=1e-5 * float(np.abs(output).max()))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The size of each batch that goes through the frozen layers from now on."""
    sizes: list[int] = []
    engine = engines.engine

    def counted(model: keras.Model, extractor: str, kept: Path | None = None) -> tuple[engines.Engine, str]:
        run, name = engine(model, extractor, kept)

        def count(pixels: np.ndarray) -> list[np.ndarray]:
            sizes.append(len(pixels))
            return run(pixels)

        return count, name

    monkeypatch.setattr(engines, "engine", counted)
    return sizes


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and from then on nothing can pass the frozen layers."""

    def refuse(_model: keras.Model, _extractor: str, _kept: Path | None = None) -> None:
        pytest.fail("the frozen layers were asked though the cache has it all")

    return lambda: monkeypatch.setattr(engines, "engine", refuse)


@pytest.mark.parametrize("extractor", ["tensorflow", "onnxruntime"])
def test_what_is_cached_is_what_keras_computes(tmp_path: Path, extractor: str) -> None:
    split, wanted = some_images(tmp_path / "raw", 6), frozen(tmp_path)
    wanted.compute.extractor = extractor
    ((pool, middle),) = extraction.cached(wanted, [(split, 3)])
    for view in range(3):
        for reader, output in zip((pool, middle), expected(split, LIGHT, view), strict=True):
            assert output.std() > 0
            assert_stored(values(reader, 6, view), output)


def test_a_warm_start_reads_and_checks_each_row_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, val = some_images(tmp_path / "train", 6), some_images(tmp_path / "val", 3)
    wanted = replace(frozen(tmp_path), spare=["middle"])
    sets = [(part(train, slice(3, 6)), 3), (val, 1)]
    extraction.cached(wanted, sets)
    read, seen = cache._read, []

    def watched(file: Any, row: int, row_bytes: int) -> bytes:
        seen.append((file.name, row))
        return read(file, row, row_bytes)

    monkeypatch.setattr(cache, "_read", watched)
    ((pool,), _) = extraction.cached(wanted, sets)
    assert len(seen) == len(set(seen)) == 2 * (3 * 3 + 3)  # two cuts, three views of three images and one of three
    assert_stored(values(pool, 3, 2), expected(sets[0][0], LIGHT, 2)[0])
    seen.clear()
    ((pool,), _) = extraction.cached(wanted, [(train, 3), (val, 1)])  # three images more
    # What is there is read once, though it is asked for before others are waited for, under the lock, and afterwards.
    assert len(seen) == len(set(seen)) == 2 * (3 * 3 + 3)
    assert_stored(values(pool, 6, 2), expected(train, LIGHT, 2)[0])


def test_the_second_call_computes_nothing(tmp_path: Path, no_engine: Callable[[], None]) -> None:
    train, val = some_images(tmp_path / "train", 6), some_images(tmp_path / "val", 3)
    first = extraction.cached(frozen(tmp_path), [(train, 3), (val, 1)])
    no_engine()
    second = extraction.cached(frozen(tmp_path), [(train, 3), (val, 1)])
    for readers, again in zip(first, second, strict=True):
        for reader, other in zip(readers, again, strict=True):
            np.testing.assert_array_equal(values(reader, 3), values(other, 3))
    # Less of it, or in another order, or each cut alone, is there too.
    ((middle,),) = extraction.cached(frozen(tmp_path, "middle"), [(part(train, slice(None, None, -1)), 2)])
    np.testing.assert_array_equal(values(middle, 6, 1), values(first[0][1], 6, 1)[::-1])


def test_each_view_passes_once_and_images_that_are_added_cost_only_themselves(
    tmp_path: Path, passes: list[int]
) -> None:
    split = some_images(tmp_path / "raw", 9)
    extraction.cached(frozen(tmp_path), [(part(split, slice(5)), 2), (part(split, slice(5, 6)), 1)])
    assert sum(passes) == 5 * 2 + 1
    passes.clear()
    # The last image moves from validation to training: only its second view is new. Three more images are, too.
    (readers,) = extraction.cached(frozen(tmp_path), [(split, 2)])
    assert sum(passes) == 1 + 3 * 2
    for view in range(2):
        assert_stored(values(readers[0], 9, view), expected(split, LIGHT, view)[0])


def test_what_the_cache_names_is_told_without_computing_anything(
    tmp_path: Path, no_engine: Callable[[], None]
) -> None:
    few, more = some_images(tmp_path / "images", 3), some_images(tmp_path / "images", 4)
    one, both = frozen(tmp_path, "middle"), frozen(tmp_path)
    assert not extraction.complete(one, [(few, 2)])
    extraction.cached(one, [(few, 2)])
    no_engine()
    assert extraction.complete(one, [(few, 2)])
    assert extraction.complete(one, [(few, 1), (few, 2)])
    assert not extraction.complete(one, [(few, 3)])
    assert not extraction.complete(one, [(few, 2), (more, 1)])
    assert not extraction.complete(both, [(few, 2)])


def test_a_view_more_costs_only_that_view(tmp_path: Path, passes: list[int]) -> None:
    split = some_images(tmp_path / "raw", 5)
    extraction.cached(frozen(tmp_path), [(split, 2)])
    passes.clear()
    more = replace(LIGHT, views=4)
    ((pool, _),) = extraction.cached(frozen(tmp_path, settings=more), [(split, 4)])
    assert sum(passes) == 5 * 2
    assert_stored(values(pool, 5, 3), expected(split, more, 3)[0])
    assert len({values(pool, 5, view).tobytes() for view in range(4)}) == 4


def test_a_cut_more_costs_one_pass_and_leaves_what_is_there(tmp_path: Path, passes: list[int]) -> None:
    split = some_images(tmp_path / "raw", 5)
    extraction.cached(frozen(tmp_path, "pool"), [(split, 2)])
    written = {path: path.read_bytes() for path in (tmp_path / "cache").glob("*/rows.f16")}
    passes.clear()
    (readers,) = extraction.cached(frozen(tmp_path), [(split, 2)])
    assert sum(passes) == 5 * 2
    assert {path: path.read_bytes() for path in written} == written
    for reader, output in zip(readers, expected(split, LIGHT, 1), strict=True):
        assert_stored(values(reader, 5, 1), output)


def test_in_int8_activations_take_half_the_bytes_and_pooled_features_are_those_of_float16(
    tmp_path: Path, passes: list[int]
) -> None:
    split = some_images(tmp_path / "raw", 6)
    half, small = frozen(tmp_path), replace(frozen(tmp_path), kind="int8")
    ((pool, middle),) = extraction.cached(half, [(split, 2)])
    passes.clear()
    ((same, near),) = extraction.cached(small, [(split, 2)])
    assert sum(passes) == 6 * 2
    assert [entry.path for entry in same.entries] == [entry.path for entry in pool.entries]
    assert not {entry.path for entry in near.entries} & {entry.path for entry in middle.entries}
    assert small.row_bytes() == [20, 7 * 7 * 6 + 2 * 6] and half.row_bytes() == [20, 2 * 7 * 7 * 6]
    for view in range(2):
        exact, found = values(middle, 6, view), values(near, 6, view)
        largest = exact.max(axis=(1, 2), keepdims=True)
        assert (np.abs(found - exact) <= largest * (0.5 / 127 + 2.0**-11) + 1e-7).all() and not (found == exact).all()


def test_an_image_that_comes_twice_is_computed_once(tmp_path: Path, passes: list[int]) -> None:
    split = some_images(tmp_path / "raw", 4)
    twice = manifest.Images([*split.paths] * 2, [*split.names] * 2, [*split.hashes] * 2, np.zeros(8, np.int64))
    ((pool, _), (val, _)) = extraction.cached(frozen(tmp_path), [(twice, 2), (split, 1)])
    assert sum(passes) == 4 * 2
    np.testing.assert_array_equal(values(pool, 8)[4:], values(val, 4))


def test_other_views_share_the_clean_images(tmp_path: Path, passes: list[int]) -> None:
    split = some_images(tmp_path / "raw", 5)
    ((first, _),) = extraction.cached(frozen(tmp_path), [(split, 3)])
    for settings in (replace(LIGHT, seed=1), replace(LIGHT, zoom=0.2)):
        passes.clear()
        ((pool, _),) = extraction.cached(frozen(tmp_path, settings=settings), [(split, 3)])
        assert sum(passes) == 5 * 2
        np.testing.assert_array_equal(values(pool, 5), values(first, 5))
        assert not np.array_equal(values(pool, 5, 1), values(first, 5, 1))
    passes.clear()
    extraction.cached(frozen(tmp_path, settings=CLEAN), [(split, 1)])
    assert passes == []


def test_other_weights_preprocessing_or_engine_share_nothing(tmp_path: Path, passes: list[int]) -> None:
    split, usual = some_images(tmp_path / "raw", 5), frozen(tmp_path, "pool", CLEAN)
    extraction.cached(usual, [(split, 1)])
    others = [
        replace(usual, weights_sha256="others"),
        replace(usual, image=replace(SIZE, interpolation="bicubic")),
        replace(usual, image=replace(SIZE, fit="pad")),
        replace(usual, compute=replace(usual.compute, extractor="onnxruntime")),
    ]
    for other in others:
        passes.clear()
        extraction.cached(other, [(split, 1)])
        assert sum(passes) == 5
    passes.clear()
    extraction.cached(replace(usual, compute=replace(usual.compute, extract_batch_size=2, cache_gb=2)), [(split, 1)])
    assert passes == []


@pytest.mark.parametrize("name", extraction.CODE)
def test_code_that_changes_the_numbers_makes_old_entries_unknown(
    tmp_path: Path, passes: list[int], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    split = some_images(tmp_path / "raw", 2)
    extraction.cached(frozen(tmp_path, "pool"), [(split, 1)])
    library = tmp_path / "thaw"
    shutil.copytree(code_version.LIBRARY, library, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_version, "LIBRARY", library)
    passes.clear()
    extraction.cached(frozen(tmp_path, "pool"), [(split, 1)])
    assert sum(passes) == 0
    (library / name / "__init__.py").write_text("CHANGED = 1\n")
    extraction.cached(frozen(tmp_path, "pool"), [(split, 1)])
    assert sum(passes) == 2


def test_a_damaged_row_is_computed_again_and_no_other(tmp_path: Path, passes: list[int]) -> None:
    split = some_images(tmp_path / "raw", 5)
    ((_, middle),) = extraction.cached(frozen(tmp_path), [(split, 1)])
    before = values(middle, 5)
    data = middle.entries[0].data
    damaged = bytearray(data.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    data.write_bytes(damaged)
    passes.clear()
    ((_, middle),) = extraction.cached(frozen(tmp_path), [(split, 1)])
    assert sum(passes) == 1
    np.testing.assert_array_equal(values(middle, 5), before)


def test_the_numbers_do_not_depend_on_the_batches(tmp_path: Path) -> None:
    split = some_images(tmp_path / "raw", 7)
    found = []
    for size in (1, 3, 7):
        wanted = frozen(tmp_path / str(size))
        wanted.compute.extract_batch_size = size
        (readers,) = extraction.cached(wanted, [(split, 3)])
        found.append([values(reader, 7, view) for reader in readers for view in range(3)])
    # But for the order in which an engine adds, and what that comes to in fp16.
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            np.testing.assert_allclose(one, two, rtol=2**-10, atol=1e-5 * float(np.abs(one).max()))


def test_what_the_budget_cannot_hold_is_kept_all_the_same_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    split, wanted = some_images(tmp_path / "raw", 3), frozen(tmp_path, "pool", CLEAN)
    wanted.compute.cache_gb = 0
    ((pool,),) = extraction.cached(wanted, [(split, 1)])
    assert "the activation cache exceeds compute.cache_gb" in capsys.readouterr().err
    assert_stored(values(pool, 3), expected(split, CLEAN, 0)[0])


def test_activations_beyond_fp16_are_refused_with_a_way_out(tmp_path: Path) -> None:
    split, wanted = some_images(tmp_path / "raw", 2), frozen(tmp_path)
    wanted.model = network(scale=1e6)
    with pytest.raises(ValueError, match=r"too large for the cache's fp16.*phase2\.activations=streaming"):
        extraction.cached(wanted, [(split, 1)])


def test_what_a_later_stage_may_ask_for_is_left_out_where_fp16_cannot_hold_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], passes: list[int]
) -> None:
    split, wanted = some_images(tmp_path / "raw", 6), frozen(tmp_path)
    wanted.model = keras.Model(NETWORK.input, [NETWORK.outputs[0], keras.layers.Rescaling(1e6)(NETWORK.outputs[1])])
    wanted.spare = ["middle"]
    ((pool,),) = extraction.cached(wanted, [(split, 2)])
    assert capsys.readouterr().err.count("fp16 can't hold activations at middle") == 1
    assert_stored(values(pool, 6), expected(split, LIGHT, 0)[0])
    assert sum(passes) == 12
    extraction.cached(wanted, [(split, 2)])
    assert sum(passes) == 12
    assert len(list((tmp_path / "cache").glob("*/rows.f16"))) == 2
    wanted.spare = []
    with pytest.raises(cache.TooLargeError):
        extraction.cached(wanted, [(split, 2)])


def test_what_is_too_small_for_fp16_is_refused_or_left_out_like_what_is_too_large(tmp_path: Path) -> None:
    split, wanted = some_images(tmp_path / "raw", 6), frozen(tmp_path)
    wanted.model = keras.Model(NETWORK.input, [NETWORK.outputs[0], keras.layers.Rescaling(1e-9)(NETWORK.outputs[1])])
    with pytest.raises(cache.TooSmallError, match=r"set phase2\.activations=streaming"):
        extraction.cached(wanted, [(split, 1)])
    wanted.spare = ["middle"]
    ((pool,),) = extraction.cached(wanted, [(split, 1)])
    assert_stored(values(pool, 6), expected(split, LIGHT, 0)[0])


def test_sizes_are_told_before_anything_is_computed(tmp_path: Path) -> None:
    wanted = frozen(tmp_path)
    assert wanted.shapes() == [(10,), (7, 7, 6)]
    assert wanted.row_bytes() == [20, 588]
    assert wanted.cache_bytes(train=100, val=10) == 608 * (100 * 3 + 10)
    assert frozen(tmp_path, settings=replace(CLEAN, views=8)).cache_bytes(train=100, val=10) == 608 * 110
    split = some_images(tmp_path / "raw", 5)
    extraction.cached(wanted, [(split, wanted.views())])
    rows = sum(path.stat().st_size for path in (tmp_path / "cache").glob("*/rows.f16"))
    assert rows == wanted.cache_bytes(train=5, val=0)


def test_an_error_half_way_loses_only_what_was_not_done(tmp_path: Path, passes: list[int]) -> None:
    split = some_images(tmp_path / "raw", 9)
    whole = expected(split, LIGHT, 1)
    gone = Path(split.paths[6])
    content = gone.read_bytes()
    gone.write_bytes(content[:100])
    with pytest.raises(ValueError, match="it holds other bytes"):
        extraction.cached(frozen(tmp_path), [(split, 2)])
    # Another whole image in its place has other rows, which must not get its name.
    Image.new("RGB", (24, 40)).save(gone)
    with pytest.raises(ValueError, match="it holds other bytes"):
        extraction.cached(frozen(tmp_path), [(split, 2)])
    assert sum(passes) == 4 * 2
    gone.write_bytes(content)
    passes.clear()
    (readers,) = extraction.cached(frozen(tmp_path), [(split, 2)])
    assert sum(passes) == 5 * 2
    for reader, output in zip(readers, whole, strict=True):
        assert_stored(values(reader, 9, 1), output)


def worker(folder: Path, out: Path, slow: float) -> subprocess.Popen[bytes]:
    """This file as a process of its own that fills the cache and writes what it reads from it."""
    command = [sys.executable, __file__, str(folder), str(out), str(slow)]
    return subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(Path(thaw.__file__).parents[1]), "CUDA_VISIBLE_DEVICES": ""}
    )


def test_two_processes_that_want_the_same_compute_it_once(tmp_path: Path) -> None:
    split = some_images(tmp_path / "raw", 8)
    both = [worker(tmp_path, tmp_path / f"{name}.npy", slow=0.1) for name in "ab"]
    assert [process.wait() for process in both] == [0, 0]
    lines = [path.read_text().splitlines() for path in (tmp_path / "cache").glob("*/index.csv")]
    assert len(lines) == 2 * 2  # views and cuts
    assert all(sorted(line[:64] for line in entry) == sorted(split.hashes) for entry in lines)
    one, two = (np.load(tmp_path / f"{name}.npy") for name in "ab")
    np.testing.assert_array_equal(one, two)
    assert_stored(one, expected(split, LIGHT, 1)[1])


def test_who_finds_all_there_does_not_wait_and_who_must_wait_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    split = some_images(tmp_path / "raw", 3)
    extraction.cached(frozen(tmp_path, "pool"), [(split, 1)])
    (family,) = (path for path in (tmp_path / "cache").glob("*.lock") if path.name != "removal.lock")
    monkeypatch.setattr(store, "WAIT", 0.1)
    held, enough = threading.Event(), threading.Event()

    def hold() -> None:
        with FileLock(family):
            held.set()
            enough.wait(60)
            time.sleep(0.5)

    other = threading.Thread(target=hold)
    other.start()
    assert held.wait(60)
    extraction.cached(frozen(tmp_path, "pool"), [(split, 1)])
    enough.set()
    extraction.cached(frozen(tmp_path, "pool"), [(split, 2)])
    other.join()
    assert " ".join(capsys.readouterr().err.split()).count("this one waits for it") == 1


def test_machines_that_share_a_cache_compute_once_and_have_the_same_bytes(
    tmp_path: Path, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    train, val = some_images(tmp_path / "train", 11), some_images(tmp_path / "val", 3)
    sets, all_of_it = [(train, 2), (val, 1)], 11 * 2  # the three are among the eleven
    extraction.cached(frozen(tmp_path / "alone"), sets)
    assert sum(passes) == all_of_it
    monkeypatch.setattr(packs, "PACK", 4 * max(frozen(tmp_path).row_bytes()))  # a batch: three parts
    machines = []
    for number in range(2):
        machine = frozen(tmp_path / f"machine {number}")
        machine.compute.shared_cache = str(tmp_path / "shared")
        machines.append(machine)
    passes.clear()
    extraction.cached(machines[0], [(part(train, slice(8)), 2)])
    assert sum(passes) == 8 * 2
    written = list((tmp_path / "shared").rglob("*.rows"))
    assert len(written) == 2 * 2 * 2  # a pack of each part, view and cut
    passes.clear()
    second = extraction.cached(machines[1], sets)
    assert sum(passes) == 3 * 2  # the eight come from the packs
    alone = extraction.cached(frozen(tmp_path / "alone"), sets)
    for one, other in zip(second, alone, strict=True):
        for reader, expected_reader in zip(one, other, strict=True):
            for view in range(len(reader.rows)):
                found = reader.half(np.arange(3), np.full(3, view))
                assert found.tobytes() == expected_reader.half(np.arange(3), np.full(3, view)).tobytes()
    passes.clear()
    extraction.cached(machines[0], sets)  # what the other has added
    assert not passes


def test_a_process_killed_half_way_leaves_the_rest_to_the_next(tmp_path: Path, passes: list[int]) -> None:
    split = some_images(tmp_path / "raw", 8)
    process = worker(tmp_path, tmp_path / "never.npy", slow=0.5)
    while not (indices := list((tmp_path / "cache").glob("*/index.csv"))) or indices[0].stat().st_size < 3 * 74:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "never.npy").exists()
    (readers,) = extraction.cached(frozen(tmp_path), [(split, 2)])
    assert 0 < sum(passes) <= 2 * 8 - 3
    (undisturbed,) = extraction.cached(frozen(tmp_path / "other"), [(split, 2)])
    for reader, other in zip(readers, undisturbed, strict=True):
        for view in range(2):
            np.testing.assert_array_equal(values(reader, 8, view), values(other, 8, view))


def main(folder: Path, out: Path, slow: float) -> None:
    paths = sorted((folder / "raw").iterdir(), key=lambda path: int(path.stem))
    hashes = [records.sha256(path) for path in paths]
    split = manifest.Images([str(path) for path in paths], [], hashes, np.zeros(len(paths), np.int64))
    engine = engines.engine

    def slowed(frozen: keras.Model, extractor: str, kept: Path | None = None) -> tuple[engines.Engine, str]:
        run, name = engine(frozen, extractor, kept)

        def sleepy(pixels: np.ndarray) -> list[np.ndarray]:
            time.sleep(slow)
            return run(pixels)

        return sleepy, name

    engines.engine = slowed
    wanted = frozen(folder)
    wanted.compute.extract_batch_size = 1
    ((_, middle),) = extraction.cached(wanted, [(split, 2)])
    np.save(out, values(middle, len(paths), 1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
