import math
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import small_network
from tests.features import computing
from thaw import paths, records
from thaw.catalog import backbones, pixel_contracts
from thaw.classifier import model
from thaw.config import phases, schema
from thaw.config.unfreeze import UnfreezeSpec
from thaw.features import auto_unfreeze, cache, engines, extraction, inputs, phase_outputs
from thaw.features.frozen import Frozen
from thaw.images import manifest, preprocessing
from thaw.networks import freeze_boundaries
from thaw.runtime import code_version, seeds
from thaw.runtime.framework import keras, tf
from thaw.training import fit, fit_settings

SIZE = schema.Image(32, "squash", "bilinear", antialias=True)
CLEAN = schema.Augment(1, False, False, False, 0, 0, 0, 0, 0, 0)
FLIPPED = replace(CLEAN, views=3, horizontal_flip=True, brightness=0.2)
PHASE2 = schema.Phase2(
    unfreeze="10",
    batch_norm="inference",
    minutes=0,
    epochs=3,
    batch_size=4,
    learning_rate=1e-3,
    allow_high_rate=False,
    patience=3,
    weight_decay=0,
    layer_decay=1,
    schedule="constant",
    warmup=0,
    flat_epochs=1,
    min_improvement=0.03,
    min_delta=0,
    target_accuracy=0,
    decay_share=0.5,
    average_epochs=0,
    mixup=0,
    class_weight="none",
    sampler="shuffle",
    activations="auto",
    stored_as="float16",
    precision="float32",
    seed=0,
)


@dataclass
class Settings:
    """What the two functions read of params.yaml."""

    augment: schema.Augment
    compute: schema.Compute
    phase2: schema.Phase2


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    compute = computing.settings(tmp_path)
    return Settings(FLIPPED, compute, replace(PHASE2))


@pytest.fixture
def train(tmp_path: Path) -> manifest.Images:
    return some_images(tmp_path / "train", 10)


@pytest.fixture
def val(tmp_path: Path) -> manifest.Images:
    return some_images(tmp_path / "val", 5)


def some_images(folder: Path, count: int) -> manifest.Images:
    """Three kinds of noise."""
    folder.mkdir()
    random, labels = np.random.default_rng(count), np.arange(count) % 3
    paths = [folder / f"{number}.png" for number in range(count)]
    for path, label in zip(paths, labels, strict=True):
        Image.fromarray(random.integers(60 * label, 60 * label + 130, (40, 40, 3)).astype(np.uint8)).save(path)
    hashes = [records.sha256(path) for path in paths]
    return manifest.Images([str(path) for path in paths], [path.name for path in paths], hashes, labels)


def built(name: str = "custom") -> model.Classifier:
    """The same one each time."""
    seeds.fix(0)
    head = schema.Head(pooling="avg", units=[16], dropout=[0.3], l2=0)
    described, size = small_network.BACKBONE, SIZE
    if name != "custom":
        described = schema.Backbone(name, "random", "", "", "")
        size = replace(SIZE, size=backbones.ROWS[name].smallest)
    card = model.Card(described, "0" * 64, size, head, ["a", "b", "c"])
    return model.build(card, weights="random")


@pytest.mark.parametrize("unfreeze", ["none", "10", "50%", "all"])
def test_both_phases_take_the_same_engine_for_a_network_that_only_the_whole_of_is_too_large(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, unfreeze: str, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(engines.settled.cache_clear)  # or the tests that follow take the engine of this one
    classifier = built()
    _, frozen, _ = parts(classifier, unfreeze)
    settings.compute.extractor = "auto"
    monkeypatch.setattr(engines, "LARGEST_CONVERTED", classifier.backbone.count_params() - 1)
    made = inputs._frozen(classifier, settings, {"cut": frozen.output}, frozen.input)
    assert made.compute.extractor == "tensorflow"


def pixels(split: manifest.Images) -> np.ndarray:
    load = preprocessing.load(SIZE)
    return np.stack([load(tf.io.read_file(path)) for path in split.paths])


def parts(classifier: model.Classifier, unfreeze: str) -> tuple[freeze_boundaries.Boundary, keras.Model, keras.Model]:
    cut = freeze_boundaries.find(classifier.backbone, UnfreezeSpec.parse(unfreeze))
    return cut, *model.thaw(classifier, cut)


def all_of(source: manifest.Source, count: int, view: int = 0) -> np.ndarray:
    return source(np.arange(count), np.full(count, view, np.int64))


def refuse(_model: keras.Model, _extractor: str) -> None:
    pytest.fail("the frozen layers were asked for what the cache has")


def rows(folder: str) -> int:
    return sum(1 for _ in Path(folder).glob("*/rows.f16"))


def test_activations_stay_warm_whatever_is_done_to_other_networks_rows(
    settings: Settings, val: manifest.Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = built("efficientnet_lite0")
    _, part, _ = parts(classifier, "90%")
    own, sets = backbones.LITES["efficientnet_lite0"], [(val, 1)]

    def warm() -> bool:
        frozen = inputs._frozen(classifier, settings, {"cut": part.output}, part.input)
        return extraction.complete(frozen, sets)

    extraction.cached(inputs._frozen(classifier, settings, {"cut": part.output}, part.input), sets)
    assert warm()
    monkeypatch.setitem(backbones.ROWS, "new", replace(own, width=1.4))
    monkeypatch.setitem(backbones.ROWS, "vgg16", replace(backbones.APPLICATIONS["vgg16"], pixels="0..1"))
    monkeypatch.setitem(pixel_contracts.CONTRACTS, "caffe", pixel_contracts.Contract(2, 0))
    library = tmp_path / "thaw"  # and the text of the table
    shutil.copytree(code_version.LIBRARY, library, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_version, "LIBRARY", library)
    with (library / "catalog" / "backbones.py").open("a") as file:
        file.write('ROWS["new"] = ROWS["vgg16"]\n')
    monkeypatch.setitem(backbones.ROWS, "efficientnet_lite0", replace(own, note="other words for people"))
    assert warm()
    for change in ({"width": 1.1}, {"pixels": "-1..1"}, {"blocks": own.blocks[:0]}, {"sha256": "0" * 64}):
        monkeypatch.setitem(backbones.ROWS, "efficientnet_lite0", replace(own, **change))
        assert not warm(), change
    monkeypatch.setitem(backbones.ROWS, "efficientnet_lite0", own)
    assert warm()
    monkeypatch.setitem(pixel_contracts.CONTRACTS, own.pixels, pixel_contracts.Contract(1 / 128, -1))
    assert not warm()


@pytest.mark.parametrize(
    ("wanted", "budget", "kept", "reason"),
    [
        ("cached", 0, True, r"activations cached, as phase2\.activations says"),
        ("streaming", 1, False, r"activations streaming, as phase2\.activations says"),
        ("auto", 1, True, r"activations cached: 0\.00 GB of 1 GB in compute\.cache_gb"),
        ("auto", 1e-9, False, r"activations streaming: cached they need 0\.00 GB, compute\.cache_gb is 1e-09"),
    ],
)
def test_activations_are_kept_as_asked_or_if_they_fit(
    settings: Settings, wanted: str, budget: float, kept: bool, reason: str
) -> None:
    settings.phase2.activations, settings.compute.cache_gb = wanted, budget
    empty = manifest.Images([], [], [], np.zeros(0, np.int64))
    few = manifest.Images([""] * 3, [""] * 3, [""] * 3, np.zeros(3, np.int64))
    tensor = keras.Input((32, 32, 3))
    frozen = Frozen(keras.Model(tensor, tensor), ["all"], "", SIZE, FLIPPED, settings.compute)
    decision, said = inputs.keep(frozen, settings, few, empty)
    assert decision is kept
    assert re.match(reason, said)


def test_the_budget_counts_every_view_of_training_and_one_of_validation(settings: Settings) -> None:
    tensor = keras.Input((10, 10, 5))  # 1000 bytes in fp16
    frozen = Frozen(keras.Model(tensor, tensor), ["all"], "", SIZE, FLIPPED, settings.compute)
    count = {n: manifest.Images([""] * n, [""] * n, [""] * n, np.zeros(n, np.int64)) for n in (2, 7)}
    settings.compute.cache_gb = (7 * 3 + 2) * 1000 / 1e9
    assert inputs.keep(frozen, settings, count[7], count[2])[0]
    settings.compute.cache_gb = (7 * 3 + 2) * 999 / 1e9
    assert not inputs.keep(frozen, settings, count[7], count[2])[0]


def test_phase_ones_inputs_are_pooled_features(
    settings: Settings, train: manifest.Images, val: manifest.Images
) -> None:
    classifier = built("efficientnet_lite0")
    found = inputs.pooled(classifier, settings, train, val)
    assert found.views == 3
    for source, split in ((found.train, train), (found.val, val)):
        expected = np.asarray(classifier.pool(classifier.backbone(pixels(split), training=False)))
        np.testing.assert_allclose(all_of(source, len(split)), expected, rtol=1e-3, atol=1e-3 * expected.max())
    assert not np.array_equal(all_of(found.train, 10, 1), all_of(found.train, 10, 2))


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Lets phase 1 have left what it would have ``auto`` thaw."""
    monkeypatch.chdir(tmp_path)
    paths.PHASE1.mkdir(parents=True)
    return lambda share: records.write_json(paths.AUTO_DEPTH, {"unfreeze": share, "reason": "auto: this"})


@pytest.mark.usefixtures("left")
def test_phase_one_leaves_what_unfitted_heads_say_and_what_auto_makes_of_it(
    settings: Settings, train: manifest.Images, val: manifest.Images
) -> None:
    classifier = built()
    found = inputs.pooled(classifier, settings, train, val)
    phase_outputs.phase1(found, classifier, train, val, seed=0)
    said = {split: np.load(paths.out_of_sample(split)) for split in ("train", "val")}
    assert {split: rows.shape for split, rows in said.items()} == {"train": (10, 3), "val": (5, 3)}
    assert {split: rows.dtype for split, rows in said.items()} == {"train": np.float16, "val": np.float32}
    choice = auto_unfreeze.choose(all_of(found.train, 10), said["train"], train.labels, 10)  # of so few the same folds
    assert records.read_json(paths.AUTO_DEPTH) == asdict(choice)
    with np.load(paths.embeddings(paths.PHASE1, "train"), allow_pickle=False) as kept:
        np.testing.assert_array_equal(kept["rows"], all_of(found.train, 10))


@pytest.mark.usefixtures("left")
def test_head_and_neighbours_learn_from_the_same_images(
    settings: Settings, train: manifest.Images, val: manifest.Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_unfreeze, "SAMPLE", 8)
    monkeypatch.setattr(auto_unfreeze, "OF_A_CLASS", 2)
    asked: list[tuple[int, ...]] = []

    def choose(*given: np.ndarray) -> auto_unfreeze.Choice:
        asked.extend(np.shape(each) for each in given)
        return auto_unfreeze.Choice(auto_unfreeze.LITTLE, "")

    monkeypatch.setattr(auto_unfreeze, "choose", choose)
    classifier = built()
    train = replace(train, units=["1", "1", "2", "2", "2", *[""] * 5])  # of a group one, as of copies
    phase_outputs.phase1(inputs.pooled(classifier, settings, train, val), classifier, train, val, seed=0)
    assert asked == [(7, small_network.CHANNELS), (7, 3), (7,), ()]


@pytest.mark.parametrize("share", [auto_unfreeze.LITTLE, auto_unfreeze.MOST])
def test_after_phase_one_auto_takes_no_image_through_the_frozen_layers(
    settings: Settings,
    train: manifest.Images,
    val: manifest.Images,
    monkeypatch: pytest.MonkeyPatch,
    left: Callable[[str], None],
    share: str,
) -> None:
    classifier = built()
    settings.phase2.unfreeze = "auto"
    inputs.pooled(classifier, settings, train, val)
    left(share)
    monkeypatch.setattr(engines, "engine", refuse)
    cut = inputs.boundary(classifier, UnfreezeSpec.parse("auto"))
    assert cut.describe().startswith(f"auto: this; {share} of the computation asked")
    found = inputs.at_boundary(model.thaw(classifier, cut)[0], cut, classifier, settings, train, val)
    assert found.kind == "cached" and found.views == 3


@pytest.mark.parametrize(("wanted", "room", "kept"), [("auto", 1.01, 1), ("cached", 1.01, 1), ("cached", 100, 2)])
def test_of_what_auto_may_choose_only_what_fits_is_kept(
    settings: Settings, train: manifest.Images, val: manifest.Images, wanted: str, room: float, kept: int
) -> None:
    classifier = built()
    _, frozen, _ = parts(classifier, auto_unfreeze.LITTLE)
    row = Frozen(frozen, ["own"], "", SIZE, FLIPPED, settings.compute)
    settings.phase2.unfreeze, settings.phase2.activations = "auto", wanted
    settings.compute.cache_gb = room * row.cache_bytes(len(train), len(val)) / 1e9
    inputs.pooled(classifier, settings, train, val)
    assert rows(settings.compute.cache_dir) == 3 * (1 + kept)


def test_once_auto_has_chosen_the_other_is_not_kept(
    settings: Settings, train: manifest.Images, val: manifest.Images, left: Callable[[str], None]
) -> None:
    classifier = built()
    settings.phase2.unfreeze, settings.compute.depths = "auto", ["auto", "10"]
    left(auto_unfreeze.MOST)
    cut = inputs.boundary(classifier, UnfreezeSpec.parse("auto"))
    inputs.at_boundary(model.thaw(classifier, cut)[0], cut, classifier, settings, train, val)
    assert rows(settings.compute.cache_dir) == 3 * 2  # its own cut and that of the other trial


@pytest.fixture(scope="module")
def whole() -> model.Classifier:
    """A classifier that is only looked at."""
    return built("efficientnet_lite0")


@pytest.mark.usefixtures("left")
@pytest.mark.parametrize("unfreeze", ["auto", "40"])
def test_without_phase_one_it_is_said_what_to_run(whole: model.Classifier, unfreeze: str) -> None:
    with pytest.raises(ValueError, match="expected what phase 1 leaves, found none; run `dvc repro` first"):
        inputs.boundary(whole, UnfreezeSpec.parse(unfreeze))


@pytest.mark.parametrize(
    ("share", "unfreeze", "told"),
    [
        (auto_unfreeze.MOST, "40", True),
        (auto_unfreeze.MOST, "110", False),
        (auto_unfreeze.MOST, "none", False),
        (auto_unfreeze.LITTLE, "40", False),
    ],
)
def test_who_thaws_little_where_auto_would_thaw_most_is_told(
    whole: model.Classifier,
    left: Callable[[str], None],
    share: str,
    unfreeze: str,
    told: bool,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spec = UnfreezeSpec.parse(unfreeze)
    left(share)
    assert inputs.boundary(whole, spec) == freeze_boundaries.find(whole.backbone, spec)
    said = (
        "warning: phase2.unfreeze=40 unfreezes 31% of the computation; 75%, which auto would take, may reach more "
        "(auto: this)\n"
    )
    assert capsys.readouterr().err == (said if told else "")


@pytest.mark.parametrize(("name", "depths"), [("efficientnet_lite0", []), ("custom", []), ("custom", ["2blocks"])])
def test_after_phase_one_nothing_passes_the_frozen_layers_again(
    settings: Settings,
    train: manifest.Images,
    val: manifest.Images,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    depths: list[str],
) -> None:
    classifier = built(name)
    settings.phase2.unfreeze, settings.compute.depths = "1blocks" if name == "custom" else "40", depths
    inputs.pooled(classifier, settings, train, val)
    monkeypatch.setattr(engines, "engine", refuse)
    cut, frozen, _ = parts(classifier, settings.phase2.unfreeze)
    found = inputs.at_boundary(frozen, cut, classifier, settings, train, val)
    assert found.views == 3
    expected = np.asarray(frozen(pixels(train), training=False))
    np.testing.assert_allclose(all_of(found.train, 10), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("phase", [1, 2])
def test_images_that_pass_leave_the_activations_at_every_depth_of_a_sweep(
    settings: Settings, train: manifest.Images, val: manifest.Images, monkeypatch: pytest.MonkeyPatch, phase: int
) -> None:
    settings.compute.depths = ["5", "10", "block_1", "nonsense", "none", "all"]
    classifier = built()
    own, frozen, _ = parts(classifier, "10")
    given = (own, classifier, settings, train, val)
    if phase == 1:
        inputs.pooled(classifier, settings, train, val)
    else:
        inputs.at_boundary(frozen, *given)
    # Three views of each cut, and in phase 1 of the pooled features.
    assert rows(settings.compute.cache_dir) == 3 * (3 + (phase == 1))
    monkeypatch.setattr(engines, "engine", refuse)
    for unfreeze in ("5", "10", "block_1"):
        settings.phase2.unfreeze = unfreeze
        cut, frozen, _ = parts(classifier, unfreeze)
        found = inputs.at_boundary(frozen, cut, *given[1:])
        expected = np.asarray(frozen(pixels(train), training=False))
        np.testing.assert_allclose(all_of(found.train, 10), expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_depths_beyond_the_budget_are_left_out_and_the_trials_own_comes_first(
    settings: Settings, train: manifest.Images, val: manifest.Images
) -> None:
    classifier = built()
    _, frozen, _ = parts(classifier, "5")
    row = Frozen(frozen, ["own"], "", SIZE, FLIPPED, settings.compute)
    settings.phase2.unfreeze, settings.compute.depths = "5", ["10", "20"]
    settings.compute.cache_gb = 1.01 * row.cache_bytes(len(train), len(val)) / 1e9
    inputs.pooled(classifier, settings, train, val)
    assert rows(settings.compute.cache_dir) == 3 + 3


def test_what_the_trained_model_says_of_the_validation_images_adds_up_to_one(
    settings: Settings, train: manifest.Images, val: manifest.Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(phase_outputs, "THAWED", 4)
    classifier = built()
    cut, frozen, thawed = parts(classifier, "1blocks")
    found = inputs.at_boundary(frozen, cut, classifier, settings, train, val)
    phase_outputs.phase2(found, train.labels, len(val), thawed, tmp_path)
    found = np.load(paths.validation(tmp_path))
    np.testing.assert_allclose(found.sum(axis=1), np.ones(5), rtol=1e-6)
    logits = np.asarray(thawed(np.asarray(frozen(pixels(val), training=False)), training=False))
    np.testing.assert_array_equal(found.argmax(axis=1), logits.argmax(axis=1))


@pytest.mark.parametrize(
    ("unfreeze", "wanted", "entries"),
    [("1blocks", "auto", 6), ("1blocks", "streaming", 3), ("all", "auto", 3)],
)
def test_phase_one_keeps_only_what_phase_two_will_take(
    settings: Settings, train: manifest.Images, val: manifest.Images, unfreeze: str, wanted: str, entries: int
) -> None:
    settings.phase2.unfreeze, settings.phase2.activations = unfreeze, wanted
    inputs.pooled(built(), settings, train, val)
    assert rows(settings.compute.cache_dir) == entries


@pytest.fixture
def too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """All activations but pooled ones are too large for fp16."""

    def append(entry: cache.Entry, hashes: list[str], values: np.ndarray) -> None:
        kept(entry, hashes, values if values.ndim == 2 else np.full_like(values, np.inf))

    kept = cache.Entry.append
    monkeypatch.setattr(cache.Entry, "append", append)


@pytest.mark.usefixtures("too_large")
@pytest.mark.parametrize("unfreeze", ["1blocks", "auto"])
def test_what_fp16_cannot_hold_ends_no_phase_one_and_streams_in_phase_two(
    settings: Settings, train: manifest.Images, val: manifest.Images, unfreeze: str
) -> None:
    settings.phase2.unfreeze, settings.compute.depths = unfreeze, ["2blocks"]
    classifier = built()
    inputs.pooled(classifier, settings, train, val)
    assert rows(settings.compute.cache_dir) == 3
    cut, frozen, _ = parts(classifier, "1blocks")
    found = inputs.at_boundary(frozen, cut, classifier, settings, train, val)
    assert (found.kind, found.views) == ("streaming", inputs.FRESH_VIEWS)
    assert found.reason == "activations streaming: one is too large for the cache's fp16"
    expected = np.asarray(frozen(pixels(val), training=False))
    np.testing.assert_allclose(all_of(found.val, 5), expected, atol=1e-4 * np.abs(expected).max())
    settings.phase2.activations = "cached"
    with pytest.raises(cache.TooLargeError, match=r"set phase2\.activations=streaming"):
        inputs.at_boundary(frozen, cut, classifier, settings, train, val)


@pytest.mark.parametrize(("warmup", "expected"), [(0, 0), (0.5, 1), (2, 2)])
def test_images_are_mixed_from_the_epoch_on_in_which_the_rate_has_risen(
    train: manifest.Images, val: manifest.Images, warmup: float, expected: int
) -> None:
    def source(indices: np.ndarray, _: np.ndarray) -> np.ndarray:
        return np.zeros((len(indices), 2), np.float32)

    # Of so few images an epoch counts as one of 64 steps, so the warm-up is said in shorter ones.
    short = warmup / phases.counted(1, math.ceil(len(train) / PHASE2.batch_size))
    phase = replace(PHASE2, mixup=0.2, warmup=short, epochs=10)
    mixed, plain = inputs.batches(
        inputs.Inputs(source, source, 1, "cached", ""), train, val, fit_settings.phase2(phase, len(train)), 3
    )
    assert (mixed.begin, mixed.alpha, plain.alpha) == (expected, 0.2, 0)


def weights(trained: keras.Model) -> np.ndarray:
    return np.concatenate([weight.ravel() for weight in trained.get_weights()])


@pytest.mark.parametrize("mixup", [0, 0.2])
def test_cached_or_streaming_the_training_is_the_same(
    settings: Settings, train: manifest.Images, val: manifest.Images, mixup: float
) -> None:
    settings.augment, settings.phase2.mixup = CLEAN, mixup
    losses, travelled = [], []
    for wanted in ("cached", "streaming"):
        settings.phase2.activations = wanted
        classifier = built()
        cut, frozen, thawed = parts(classifier, "1blocks")
        found = inputs.at_boundary(frozen, cut, classifier, settings, train, val)
        assert found.views == 1
        how = fit_settings.phase2(settings.phase2, len(train))
        batches, checks = inputs.batches(found, train, val, how, 3)
        start = weights(thawed)
        history = fit.fit(thawed, batches, checks, how, lambda *_: None, "phase 2")
        losses.append([row[name] for row in history.rows for name in ("loss", "val_loss")])
        travelled.append(weights(thawed) - start)
    # Nine steps at a high rate amplify the rounding to fp16.
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-2)
    assert np.linalg.norm(travelled[0] - travelled[1]) < 0.03 * np.linalg.norm(travelled[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", backbones.ROWS)
def test_of_every_network_cached_and_streaming_activations_agree(
    settings: Settings, train: manifest.Images, val: manifest.Images, name: str
) -> None:
    settings.augment = CLEAN
    classifier = built(name)
    for layer in classifier.backbone.layers:
        if "_se_" in layer.name or "squeeze_excite" in layer.name:  # else switches, which go either way by rounding
            layer.set_weights([array / 10 for array in layer.get_weights()])
        if layer.name == "conv1_conv":  # else too large for fp16 in ResNet152, which doubles them in each block
            layer.set_weights([array / 100 for array in layer.get_weights()])
    cut, frozen, _ = parts(classifier, "50%")
    both = []
    for settings.phase2.activations in ("cached", "streaming"):
        found = inputs.at_boundary(frozen, cut, classifier, settings, train, val)
        both.append(all_of(found.train, len(train)))
    assert np.std(both[1]) > 0
    np.testing.assert_allclose(both[0], both[1], rtol=2**-11, atol=2e-5 * np.abs(both[1]).max())


def test_storing_in_fp16_moves_the_answers_by_little(
    settings: Settings, train: manifest.Images, val: manifest.Images
) -> None:
    settings.augment = CLEAN
    classifier = built("efficientnet_lite0")
    cut, frozen, thawed = parts(classifier, "40")
    settings.phase2.activations = "cached"
    found = inputs.at_boundary(frozen, cut, classifier, settings, train, val)
    exact = np.asarray(frozen(pixels(train), training=False))
    stored = all_of(found.train, 10)
    # fp16 rounds to 2**-11 of a value; the engine itself is off by 1e-5 of the largest.
    np.testing.assert_allclose(stored, exact, rtol=2**-11, atol=2e-5 * np.abs(exact).max())
    logits, answers = (np.asarray(thawed(values, training=False)) for values in (exact, stored))
    assert np.abs(answers - logits).max() < 2e-3 * np.abs(logits).max()
