import hashlib
import importlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from thaw import paths, records
from thaw.classifier import frozen_weights, model
from thaw.config import load, schema
from thaw.config.unfreeze import UnfreezeSpec
from thaw.exports import write
from thaw.networks import external, freeze_boundaries, pretrained
from thaw.runtime.framework import keras, tf

# As in conftest, which importlib does not let a test import.
TINY = ("data=folder", "augment.views=2", "phase1.epochs=2", "phase2.epochs=2", "tracking.enabled=false")
SIZE = 32
IMAGE = schema.Image(SIZE, "squash", "bilinear", antialias=True)
HEAD = schema.Head(pooling="avg", units=[], dropout=[], l2=0)
PIXELS = np.random.default_rng(0).uniform(0, 255, (6, SIZE, SIZE, 3)).astype("float32")
LABELS = np.arange(6) % 2
BUILDER = """
import keras

def residual(size):
    given = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(8, 3, strides=2, padding="same")(given)
    for _ in range(2):
        y = keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 3, padding="same")(x))
        x = keras.layers.Add()([x, keras.layers.ReLU()(y)])
    return keras.Model(given, x)

def vector(size):
    given = keras.Input((size, size, 3))
    return keras.Model(given, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(given)))

def channels_first(size):
    network = residual(size)
    return keras.Model(network.input, keras.layers.Permute((3, 1, 2))(network.output))

def nothing(size):
    return "no model"

def chain(size):
    network = keras.Sequential(name="chain")
    for number in range(3):
        network.add(keras.layers.Conv2D(4, 3, name=f"block_{number}"))
    return network

def chain_of_images(size):
    network = keras.Sequential([keras.Input((size, size, 3))])
    for layer in chain(size).layers:
        network.add(layer)
    return network

class Subclass(keras.Model):
    def __init__(self, size):
        super().__init__()
        self.inner = keras.layers.Conv2D(4, 3)

    def call(self, images):
        return self.inner(images)

class Pair(Subclass):
    def call(self, images):
        return self.inner(images), images

def twice(size):
    given = keras.Input((size, size, 3))
    layer = keras.layers.Conv2D(3, 3)
    return keras.Model(given, layer(layer(given)))

def two_outputs(size):
    given = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(4, 3)(given)
    return keras.Model(given, [x, keras.layers.ReLU()(x)], name="two")

def two_inputs(size):
    given = [keras.Input((size, size, 3)) for _ in range(2)]
    return keras.Model(given, keras.layers.Add()(given))

def wider(size):
    given = keras.Input((2 * size, 2 * size, 3))
    return keras.Model(given, keras.layers.Dense(4)(keras.layers.Flatten()(given)), name="wide")

def large(size):
    assert size >= 64, "too small"
    return residual(size)

def frozen(size):
    network = residual(size)
    network.trainable = False
    for layer in network.layers:
        layer.trainable = False
    return network

def nested(size):
    given = keras.Input((size, size, 3))
    inner = residual(size)
    inner.trainable = False
    return keras.Model(given, inner(given, training=False))

def one_name(size):
    given = keras.Input((size, size, 3))
    def block(name):
        begin = keras.Input((size, size, 3))
        return keras.Model(begin, keras.layers.Conv2D(3, 1, name="inner")(begin), name=name)
    return keras.Model(given, block("second")(block("first")(given)))

def attention(size):
    given = keras.Input((size, size, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(8, 8, strides=8)(given))
    x = keras.layers.Reshape((-1, 8))(x)
    y = keras.layers.MultiHeadAttention(2, 4, dropout=0.5)(x, x)
    return keras.Model(given, keras.layers.LayerNormalization()(keras.layers.Add()([x, y])))

class Drawing(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.norm, self.drop = keras.layers.BatchNormalization(), keras.layers.Dropout(0.5)

    def call(self, images, training=None):
        return self.drop(self.norm(images, training=training), training=training)

def drawing(size):
    given = keras.Input((size, size, 3))
    return keras.Model(given, Drawing()(keras.layers.Conv2D(4, 3)(given)))

def grown(size):
    given = keras.Input((size, size, 3))
    return keras.Model(given, keras.layers.Dense(size)(keras.layers.Flatten()(given)))
"""


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module with builders, which can be imported."""
    (tmp_path / "our_networks.py").write_text(BUILDER, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "our_networks", raising=False)
    return "our_networks"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A small network as a SavedModel that Keras has exported."""
    keras.utils.set_random_seed(1)
    given = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Conv2D(8, 3, strides=4, activation="relu", name="first")(given)
    x = keras.layers.Conv2D(6, 3, strides=2, name="second")(keras.layers.BatchNormalization()(x))
    network = keras.Model(given, x)
    network.export(tmp_path / "saved", verbose=False)
    return tmp_path / "saved"


def classifier(name: str, weights: str, builder: str = "", pixels: str = "-1..1") -> model.Classifier:
    described = schema.Backbone(name, weights, builder, pixels, "")
    card = model.Card(described, "0" * 64, IMAGE, HEAD, ["ant", "bee"])
    return model.build(card, weights=weights)


def logits(of: model.Classifier) -> np.ndarray:
    return np.asarray(model.whole(of)(PIXELS, training=False))


def trained(of: model.Classifier, unfreeze: str, policy: str = "inference") -> set[str]:
    """Train a little; the paths of the backbone's weights that moved."""
    before = {variable.path: variable.numpy() for variable in of.backbone.variables}
    frozen, thawed = model.thaw(of, freeze_boundaries.find(of.backbone, UnfreezeSpec.parse(unfreeze)), policy)
    witness = frozen_weights.witness(of, thawed, policy)
    thawed.compile(keras.optimizers.Adam(0.05), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    thawed.fit(np.asarray(frozen(PIXELS)), LABELS, batch_size=3, epochs=2, verbose=0)
    frozen_weights.check(of, witness)
    after = {variable.path: variable.numpy() for variable in of.backbone.variables}
    return {path for path, value in before.items() if not np.array_equal(value, after[path])}


def check_another_process_says_the_same(of: model.Classifier, folder: Path) -> None:
    model.save(folder / "classifier", of)
    np.save(folder / "pixels.npy", PIXELS)
    code = (
        "import sys, numpy as np; from pathlib import Path; from thaw.classifier import frozen_weights, model;"
        "folder = Path(sys.argv[1]);"
        "loaded = model.load(folder / 'classifier'); model.save(folder / 'again', loaded);"
        "np.save(folder / 'said.npy', model.whole(loaded)(np.load(folder / 'pixels.npy'), training=False))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    np.testing.assert_allclose(np.load(folder / "said.npy"), logits(of), atol=1e-5)
    assert external.digest(folder / "again") == external.digest(folder / "classifier")


def check_export(of: model.Classifier, folder: Path, formats: list[str]) -> None:
    write.write(folder / "export", of, formats)
    loaded = tf.saved_model.load(str(folder / "export" / paths.SAVED_MODEL))
    found = loaded.signatures["images"](tf.constant(PIXELS.astype("uint8")))["probabilities"]
    expected = tf.nn.softmax(model.whole(of)(np.floor(PIXELS), training=False))
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.usefixtures("builder")
def test_a_builder_of_ones_own_is_cut_trained_exported_and_loaded_elsewhere(
    builder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = classifier("custom", "random", f"{builder}:residual")
    assert [cut.block for cut in freeze_boundaries.every(of.backbone)] == ["part_1", "part_2", "part_3", ""]
    moved = trained(of, "1blocks")
    assert moved == {"conv2d_2/kernel", "conv2d_2/bias"}
    check_export(of, tmp_path, ["keras", "saved_model"])
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    check_another_process_says_the_same(of, tmp_path)


def test_a_builders_own_weights_are_kept_and_its_pixels_scaled(builder: str) -> None:
    keras.utils.set_random_seed(3)
    of = classifier("custom", "builder", f"{builder}:vector", "0..1")
    assert of.backbone.output_shape == (None, 1, 1, 5)
    dense = of.backbone.get_layer("dense")
    expected = (PIXELS / 255).mean(axis=(1, 2)) @ np.asarray(dense.kernel)
    np.testing.assert_allclose(np.asarray(of.backbone(PIXELS))[:, 0, 0], expected, atol=1e-5)


def test_channels_that_come_first_are_warned_of_where_that_is_seen(
    builder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for function, warnings in (("channels_first", 1), ("residual", 0), ("vector", 0)):
        external.build("custom", "builder", SIZE, f"{builder}:{function}", "0..1", pretrained=False)
        said = capsys.readouterr().err
        assert said.count("channels seem to come first") == warnings == len(said.splitlines())


@pytest.mark.parametrize(
    ("function", "blocks"),
    [
        ("chain", ["block_0", "block_1", "block_2", ""]),
        ("chain_of_images", ["block_0", "block_1", "block_2", ""]),
        ("Subclass", ["part_1", ""]),
        ("twice", ["part_1", ""]),
    ],
)
def test_a_model_is_cut_where_keras_can_look_into_it_and_else_one_block(
    builder: str, function: str, blocks: list[str]
) -> None:
    of = classifier("custom", "random", f"{builder}:{function}")
    assert [cut.block for cut in freeze_boundaries.every(of.backbone)] == blocks
    assert [cut.share for cut in freeze_boundaries.every(of.backbone)][:: len(blocks) - 1] == [1, 0]
    assert trained(of, "all") == set(of.pretrained)


def test_the_digest_of_a_builders_weights_is_that_of_the_network_that_is_used(builder: str) -> None:
    described = schema.Backbone("custom", "builder", f"{builder}:grown", "0..1", "")
    card = model.Card(described, "", IMAGE, HEAD, ["ant", "bee"])
    keras.utils.set_random_seed(3)
    of = model.build(card, weights="builder")
    arrays = [np.ascontiguousarray(array, "<f4").tobytes() for array in of.backbone.get_weights()]
    assert of.card.weights_sha256 == hashlib.sha256(b"".join(arrays)).hexdigest()
    keras.utils.set_random_seed(3)
    right = replace(card, backbone=replace(described, sha256=of.card.weights_sha256))
    assert model.build(right, weights="builder").card.weights_sha256 == of.card.weights_sha256
    wrong = replace(card, backbone=replace(described, sha256="0" * 64))
    with pytest.raises(
        ValueError, match=r"^backbone\.sha256: expected the weights that the builder gives to have the "
    ):
        model.build(wrong, weights="builder")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("our_networks:none_such", "expected package.module:function that can be imported"),
        ("no_such_module:build", "expected package.module:function that can be imported"),
        (
            "our_networks:large",
            "expected our_networks:large to build a network of 32 pixels .*AssertionError: too small",
        ),
        ("our_networks:nothing", "expected a Keras model, received str"),
        ("our_networks:two_outputs", "expected a network of one output, received two with 2"),
        ("our_networks:Pair", "expected a network of one output, received pair with 2"),
        ("our_networks:two_inputs", "expected a network of one input, .* does not take them .*it has 2 inputs"),
        (
            "our_networks:wider",
            "expected a network of one input, images .*32, 32, 3. float32, received wide, which does",
        ),
    ],
)
@pytest.mark.usefixtures("builder")
def test_a_builder_that_builds_nothing_is_refused(function: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"backbone.builder: {message}"):
        classifier("custom", "random", function)


@pytest.mark.usefixtures("builder")
@pytest.mark.parametrize("function", ["frozen", "nested"])
def test_layers_that_a_builder_has_frozen_are_thawed_all_the_same(function: str) -> None:
    of = classifier("custom", "random", f"our_networks:{function}")
    assert [cut.block for cut in freeze_boundaries.every(of.backbone)] == ["part_1", "part_2", "part_3", ""]
    assert len(trained(of, "all")) == len([one for one in of.backbone.weights if one.name in ("kernel", "bias")])


@pytest.mark.usefixtures("builder")
def test_layers_of_one_name_inside_of_others_are_refused() -> None:
    with pytest.raises(ValueError, match="expected weights with a path each, received inner/kernel 2 times"):
        classifier("custom", "random", "our_networks:one_name")


@pytest.mark.usefixtures("builder")
def test_where_batch_norm_trains_nothing_else_behaves_otherwise_than_in_inference() -> None:
    of = classifier("custom", "random", "our_networks:attention")
    frozen, thawed = model.thaw(of, freeze_boundaries.find(of.backbone, UnfreezeSpec.parse("all")), "train")
    inputs = np.asarray(frozen(PIXELS))
    once, again = (np.asarray(thawed(inputs, training=True)) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert not np.allclose(once, thawed(inputs, training=False))  # the statistics are those of the batch
    moved = trained(classifier("custom", "random", "our_networks:attention"), "all", "train")
    assert {"moving_mean", "gamma"} <= {path.rsplit("/")[-1] for path in moved}
    assert not any("seed" in path for path in model.fingerprint(of.backbone))


@pytest.mark.usefixtures("builder")
def test_a_layer_that_draws_and_has_batch_norm_is_refused_where_that_is_to_train() -> None:
    with pytest.raises(
        ValueError, match=r"phase2\.batch_norm=train: expected layers in which training moves BatchNorm"
    ):
        trained(classifier("custom", "random", "our_networks:drawing"), "all", "train")
    assert trained(classifier("custom", "random", "our_networks:drawing"), "all")


def test_a_saved_model_is_trained_whole_exported_and_loaded_where_it_is_not(saved: Path, tmp_path: Path) -> None:
    of = classifier("saved_model", str(saved))
    original = tf.saved_model.load(str(saved))
    np.testing.assert_allclose(of.backbone(PIXELS), original.serve(PIXELS / 127.5 - 1), atol=1e-5)
    assert len(trained(of, "all")) == 4
    check_export(of, tmp_path, ["saved_model"])
    check_another_process_says_the_same(of, tmp_path)


def test_of_a_saved_model_only_the_variables_of_a_pattern_are_trained(saved: Path) -> None:
    of = classifier("saved_model", str(saved))
    moved = trained(of, "variables:second|conv2d_1")
    assert moved == {path for path in model.fingerprint(of.backbone) if "second" in path}
    with pytest.raises(ValueError, match="expected a pattern of variables like 6_second_kernel, 7_second_bias"):
        trained(of, "variables:third")


def test_batch_norm_inside_of_a_saved_model_follows_the_policy(saved: Path) -> None:
    assert not any("batch_norm" in path for path in trained(classifier("saved_model", str(saved)), "all"))
    moved = trained(classifier("saved_model", str(saved)), "all", "trainable_affine")
    assert len(moved) == 6 and {path[-5:] for path in moved if "batch_norm" in path} == {"gamma", "_beta"}
    with pytest.raises(
        ValueError, match=r"phase2\.batch_norm: expected inference or trainable_affine .* received train"
    ):
        trained(classifier("saved_model", str(saved)), "all", "train")


def test_a_saved_model_that_trains_nothing_is_refused(tmp_path: Path) -> None:
    class Fixed(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(tf.ones((3, 4)), trainable=False)

        @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, images: tf.Tensor) -> tf.Tensor:
            return tf.reduce_mean(images, (1, 2)) @ self.kernel

    tf.saved_model.save(Fixed(), str(tmp_path / "fixed"))
    with pytest.raises(ValueError, match=r"expected weights that can be trained .* received none"):
        trained(classifier("saved_model", str(tmp_path / "fixed")), "all")


def test_a_network_that_fails_on_two_images_is_refused_at_once(tmp_path: Path) -> None:
    class One(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec((1, SIZE, SIZE, 3), tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, images: tf.Tensor) -> tf.Tensor:
            return tf.reduce_mean(images, (1, 2))

    tf.saved_model.save(One(), str(tmp_path / "one"))
    with pytest.raises(
        ValueError, match=r"backbone\.weights: expected a (network that takes|SavedModel of) images"
    ) as error:
        classifier("saved_model", str(tmp_path / "one"))
    assert "\n" not in str(error.value) and "\x1b" not in str(error.value)


def test_a_module_that_can_be_called_is_a_saved_model_too(tmp_path: Path) -> None:
    class Hub(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.kernel = tf.Variable(tf.ones((3, 4)), name="kernel")

        @tf.function(input_signature=[tf.TensorSpec((None, None, None, 3), tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, images: tf.Tensor) -> tf.Tensor:
            return tf.reduce_mean(images, (1, 2)) @ self.kernel

    tf.saved_model.save(Hub(), str(tmp_path / "hub"))
    of = classifier("saved_model", str(tmp_path / "hub"), pixels="0..255")
    assert of.backbone.output_shape == (None, 1, 1, 4)
    assert trained(of, "all") == {"0_kernel"}


def test_a_saved_model_of_other_images_is_refused(saved: Path) -> None:
    described = schema.Backbone("saved_model", str(saved), "", "0..1", "")
    larger = schema.Image(64, "squash", "bilinear", antialias=True)
    with pytest.raises(ValueError, match=r"expected a SavedModel of images \(None, 64, 64, 3\) float32, received"):
        model.build(model.Card(described, "", larger, HEAD, ["ant", "bee"]), weights=str(saved))


@pytest.fixture
def cached(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The handle of a model that Kaggle's client has downloaded before."""
    pytest.importorskip("kagglehub")
    folder = tmp_path / "kaggle" / "models" / "us" / "net" / "tensorFlow2" / "small" / "1"
    folder.parent.mkdir(parents=True)
    saved.rename(folder)
    (folder.parent / "1.complete").touch()
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "kaggle"))
    return "kaggle://us/net/tensorFlow2/small/1"


def test_what_kaggles_client_has_is_taken_if_its_hash_is_right(cached: str, tmp_path: Path) -> None:
    folder = tmp_path / "kaggle/models/us/net/tensorFlow2/small/1"
    assert external.folder(f"{cached}@sha256:{external.digest(folder)}") == folder
    with pytest.raises(ValueError, match=f"with sha256 {'0' * 64}, received {external.digest(folder)}"):
        external.folder(f"{cached}@sha256:{'0' * 64}")
    with pytest.raises(ValueError, match="received a handle without its hash"):
        external.folder(cached)


def test_the_hash_of_a_folder_is_printed_and_of_nothing_else_is_none(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-m", "thaw.networks.external", str(saved)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"{external.digest(saved)}\n"
    for given in ((), (str(saved / "saved_model.pb"),), (str(tmp_path / "none"),), (str(saved), str(saved))):
        monkeypatch.setattr(sys, "argv", ["thaw.networks.external", *given])
        with pytest.raises(SystemExit) as ended:
            external.main()
        said = str(ended.value.code)
        assert said.startswith("thaw.networks.external: ") and "\n" not in said
    assert not capsys.readouterr().out


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"backbone.weights: expected a folder with saved_model.pb, or kaggle://"):
        classifier("saved_model", str(tmp_path))
    with pytest.raises(ValueError, match=r"expected a folder with config.json"):
        classifier("keras_hub", str(tmp_path))


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    (tmp_path / "config.json").write_text("{}")
    for name, weights in (("keras_hub", str(tmp_path)), ("saved_model", f"kaggle://a/b/c/d/1@sha256:{'0' * 64}")):
        with pytest.raises(ValueError, match=r"run `pip install 'kagglehub.*' 'keras-hub.*'`"):
            classifier(name, weights)


def _preset(tmp_path: Path) -> Path:
    keras_hub = pytest.importorskip("keras_hub")
    network = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[2, 2],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(None, None, 3),
    )
    network.save_to_preset(str(tmp_path / "preset"))
    return tmp_path / "preset"


@pytest.mark.slow
def test_a_preset_of_kerashub_is_cut_trained_exported_and_loaded_where_it_is_not(
    tmp_path: Path,
) -> None:
    preset = _preset(tmp_path)
    of = classifier("keras_hub", str(preset), pixels="imagenet")
    cuts = freeze_boundaries.every(of.backbone)
    assert [cut.block for cut in cuts] == [
        "stem",
        *(f"stack{stack}_block{block}" for stack in range(2) for block in range(2)),
        "",
    ]
    moved = trained(of, "stack1_block1")
    assert moved and all(path.startswith("stack1_block1") for path in moved)
    (preset / "model.weights.h5").unlink()
    check_another_process_says_the_same(of, tmp_path)
    check_export(of, tmp_path, ["keras", "saved_model"])


def test_a_preset_that_does_not_load_is_the_fault_of_the_weights(tmp_path: Path) -> None:
    pytest.importorskip("keras_hub")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"^backbone\.weights: expected a preset of an image backbone, received "):
        classifier("keras_hub", str(tmp_path))


def test_the_hash_of_a_folder_is_of_its_files(saved: Path, tmp_path: Path) -> None:
    before = external.digest(saved)
    network = pretrained.build("saved_model", str(saved), SIZE, pixels="0..1", sha256=before)
    assert pretrained.weights_sha256(network, str(saved), sha256=before) == before
    for ask in (
        lambda: pretrained.build("saved_model", str(saved), SIZE, pixels="0..1", sha256="0"),
        lambda: pretrained.weights_sha256(network, str(saved), sha256="0"),
    ):
        with pytest.raises(
            ValueError, match=rf"^backbone\.sha256: expected .* to have the sha256 0, received {before}"
        ):
            ask()
    saved.rename(tmp_path / "elsewhere")
    assert external.digest(tmp_path / "elsewhere") == before
    (tmp_path / "elsewhere" / "new").touch()
    assert external.digest(tmp_path / "elsewhere") != before


def _run(project: Path, weights: Path, builder: str, overrides: list[str]) -> None:
    settings = [*TINY, "image.size=32", f"backbone.weights='{weights}'", *overrides]
    if builder:
        settings.append(f"backbone.builder='{builder}'")
    paths.PARAMS.write_text(load.compose(settings), encoding="utf-8", newline="\n")
    for stage in ("prepare", "phase1_head", "phase2_finetune", "evaluate", "export"):
        importlib.import_module(f"stages.{stage}").main()
    assert records.read_json(paths.metrics("export"))["largest_difference"] < 1e-4
    trained = [int(row["trained"]) for row in records.read_csv(paths.BLOCKS)]
    assert trained[-1] and project.is_dir()


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_images")
def test_a_custom_network_passes_all_stages(project: Path, builder: str) -> None:
    _run(project, Path("builder"), f"{builder}:residual", ["backbone=custom", "phase2.unfreeze=auto"])
    assert "%" in records.read_json(paths.metrics("phase2_finetune"))["boundary"]


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_images")
@pytest.mark.parametrize("unfreeze", ["all", "variables:second"])
def test_a_saved_model_passes_all_stages(project: Path, saved: Path, unfreeze: str) -> None:
    _run(project, saved, "", ["backbone=saved_model", f"phase2.unfreeze='{unfreeze}'"])
    assert not (paths.EXPORTED / paths.KERAS_FILE).exists()


@pytest.mark.slow
@pytest.mark.usefixtures("tiny_images")
def test_a_preset_of_kerashub_passes_all_stages(project: Path, tmp_path: Path) -> None:
    _run(project, _preset(tmp_path), "", ["backbone=keras_hub", "phase2.unfreeze=1blocks"])
