"""Each group's ranges, by making one value of a sound group wrong."""

import re
import subprocess
import sys
from dataclasses import MISSING, asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from thaw.config import load, schema

ROOT = Path(__file__).resolve().parents[2]

# (group, field, value, what the message must hold)
REFUSED: list[tuple[str, str, Any, str]] = [
    ("data", "raw", "", "data.raw: expected a folder of images or a manifest, received an empty path"),
    ("data", "val", 0.005, "data.val: expected 0.01 to 0.5, received 0.005"),
    ("data", "test", 0.51, "data.test: expected 0.01 to 0.5, received 0.51"),
    ("data", "min_side", 0, "data.min_side: expected 1 to 1024 pixels, received 0"),
    ("data", "max_pixels", 0, "data.max_pixels: expected 1 to 1e+09 pixels, received 0"),
    ("data", "min_per_class", 0, "data.min_per_class: expected 1 to 1e+06 images, received 0"),
    ("data", "max_bad_share", 1.1, "data.max_bad_share: expected 0 to 1, received 1.1"),
    ("image", "size", 31, "image.size: expected 32 to 1024 pixels, received 31"),
    ("image", "size", 1025, "received 1025"),
    ("image", "fit", "stretch", "image.fit: expected one of squash, crop, pad, received 'stretch'"),
    ("image", "interpolation", "lanczos", "image.interpolation: expected one of nearest, bilinear, bicubic"),
    ("augment", "views", 0, "augment.views: expected 1 to 64, received 0"),
    ("augment", "views", 1, "augment.views: expected 2 or more where images are augmented, received 1"),
    ("augment", "rotation", 181.0, "augment.rotation: expected 0 to 180 degrees, received 181.0"),
    ("augment", "zoom", 0.91, "augment.zoom: expected 0 to 0.9"),
    ("augment", "translation", -0.1, "augment.translation: expected 0 to 0.5, received -0.1"),
    ("augment", "brightness", 1.1, "augment.brightness: expected 0 to 1"),
    ("augment", "contrast", float("nan"), "augment.contrast: expected 0 to 1, received nan"),
    ("backbone", "pixels", "imagenet", "backbone.pixels: expected nothing, since efficientnet_lite0 has its own"),
    ("backbone", "builder", "mine:build", "backbone.builder: expected nothing for efficientnet_lite0"),
    ("backbone", "weights", "builder", "backbone.weights: efficientnet_lite0 expects package, random or the path"),
    ("backbone", "name", "custom", "backbone.pixels: expected one of 0..255, 0..1, "),
    ("backbone", "weights", "ImageNet", "backbone.weights: efficientnet_lite0 expects package, random or the path"),
    ("head", "pooling", "mean", "head.pooling: expected one of avg, max, received 'mean'"),
    ("head", "units", [256], "head.dropout: expected one rate for each of the 1 head.units, received 2"),
    ("head", "units", [256, 0], "head.units: expected widths of 1 or more, received [256, 0]"),
    ("head", "dropout", [0.5, 0.96], "head.dropout: expected rates from 0 to 0.95, received [0.5, 0.96]"),
    ("head", "l2", -1.0, "head.l2: expected 0 to 1, received -1.0"),
    ("phase1", "epochs", 0, "phase1.epochs: expected 1 to 1000, received 0"),
    ("phase1", "batch_size", 4097, "phase1.batch_size: expected 1 to 4096 images, received 4097"),
    ("phase1", "learning_rate", 0.0, "phase1.learning_rate: expected 1e-08 to 1, received 0.0"),
    ("phase1", "patience", 0, "phase1.patience: expected 1 to 1000 epochs"),
    ("phase1", "plateau_patience", 1001, "phase1.plateau_patience: expected 1 to 1000 epochs"),
    ("phase1", "plateau_factor", 1.01, "phase1.plateau_factor: expected 0.01 to 1"),
    ("phase1", "class_weight", "auto", "phase1.class_weight: expected one of none, balanced, received 'auto'"),
    ("phase2", "sampler", "weighted", "phase2.sampler: expected one of shuffle, balanced, received 'weighted'"),
    ("phase2", "unfreeze", "", "phase2.unfreeze: expected a number of layers from 1"),
    ("phase2", "unfreeze", "0", "received '0'"),
    ("phase2", "unfreeze", "-3", "received '-3'"),
    ("phase2", "unfreeze", "0blocks", "received '0blocks'"),
    ("phase2", "unfreeze", "2.5blocks", "received '2.5blocks'"),
    ("phase2", "unfreeze", "0%", "received '0%'"),
    ("phase2", "unfreeze", "101%", "received '101%'"),
    (
        "phase2",
        "unfreeze",
        "variables:",
        "expected a regular expression after variables:, received 'variables:' (it is",
    ),
    ("phase2", "unfreeze", "variables:[", "received 'variables:[' (unterminated character set at position 0)"),
    ("phase2", "epochs", 1001, "phase2.epochs: expected 0 to 1000"),
    ("phase2", "minutes", -1, "phase2.minutes: expected 0 to 100000 minutes, received -1"),
    ("phase2", "flat_epochs", 0, "phase2.flat_epochs: expected 1 to 1000 epochs, received 0"),
    ("phase2", "min_improvement", 0.6, "phase2.min_improvement: expected 0 to 0.5, received 0.6"),
    ("phase2", "min_delta", -0.1, "phase2.min_delta: expected 0 to 10, received -0.1"),
    ("phase2", "target_accuracy", 99, "phase2.target_accuracy: expected 0 to 1, received 99"),
    ("phase2", "decay_share", 0, "phase2.decay_share: expected 0.1 to 2, received 0"),
    ("phase2", "average_epochs", 101, "phase2.average_epochs: expected 0 to 100 epochs, received 101"),
    ("phase2", "batch_size", 0, "phase2.batch_size: expected 1 to 4096 images"),
    ("phase2", "learning_rate", 1.5, "phase2.learning_rate: expected 1e-08 to 1"),
    ("phase2", "patience", 0, "phase2.patience: expected 1 to 1000 epochs"),
    ("phase2", "schedule", "step", "phase2.schedule: expected one of warmup_stable_decay, constant, cosine"),
    ("phase2", "warmup", 1001, "phase2.warmup: expected 0 to 1000 epochs"),
    ("phase2", "precision", "half", "phase2.precision: expected one of auto, float32, tf32, mixed, received 'half'"),
    ("phase2", "mixup", 1.5, "phase2.mixup: expected 0 to 1, received 1.5"),
    ("phase2", "activations", "disk", "phase2.activations: expected one of auto, cached, streaming"),
    ("compute", "cache_gb", -1.0, "compute.cache_gb: expected 0 to 100000 GB"),
    ("compute", "extractor", "torch", "compute.extractor: expected one of auto, onnxruntime, tensorflow"),
    ("compute", "extract_batch_size", 0, "compute.extract_batch_size: expected 1 to 4096 images"),
    ("compute", "devices", 0, "compute.devices: expected 1 to 64 GPUs or all, received 0"),
    ("compute", "device", "tpu", "compute.device: expected one of auto, cpu, gpu, received 'tpu'"),
    ("compute", "workers", 0, "compute.workers: expected 1 to 64 processes or all, received 0"),
    ("compute", "workers", True, "compute.workers: expected 1 to 64 processes or all, received True"),
    ("compute", "devices", "some", "compute.devices: expected 1 to 64 GPUs or all, received 'some'"),
    ("backbone", "name", "resnet", "received 'resnet'; did you mean resnet50 or resnet152 or resnet101?"),
    ("evaluate", "top_k", [0], "evaluate.top_k: expected numbers from 1, received [0]"),
    ("evaluate", "confidence", 1.0, "evaluate.confidence: expected 0.5 to 0.999"),
    ("evaluate", "batch_size", 0, "evaluate.batch_size: expected 1 to 4096 images"),
    ("export", "formats", [], "export.formats: expected some of keras, saved_model, onnx, "),
    ("export", "formats", ["keras", "pickle"], "received ['keras', 'pickle']"),
    ("export", "tolerance", 0.2, "export.tolerance: expected 0 to 0.1"),
    ("tracking", "experiment", "", "tracking.experiment: expected a name"),
]
ACCEPTED: list[tuple[str, str, Any]] = [
    ("data", "val", 0.01),
    ("image", "size", 1024),
    ("compute", "devices", "all"),
    ("compute", "workers", 64),
    ("compute", "workers", "all"),
    ("augment", "rotation", 180.0),
    ("backbone", "weights", "weights/mine.weights.h5"),
    ("phase1", "plateau_factor", 1.0),
    ("phase2", "unfreeze", "1"),
    ("phase2", "unfreeze", "block_6a"),
    ("phase2", "unfreeze", "all"),
    ("phase2", "unfreeze", "3blocks"),
    ("phase2", "unfreeze", "1block"),
    ("phase2", "unfreeze", "12.5%"),
    ("phase2", "unfreeze", "100%"),
    ("phase2", "unfreeze", "auto"),
    ("phase2", "unfreeze", "variables:block_1[56]"),
    ("phase2", "epochs", 7),
    ("phase2", "warmup", 0.5),
    ("compute", "cache_gb", 0.0),
    ("export", "formats", ["saved_model"]),
]


@pytest.fixture(scope="module")
def sound() -> schema.Project:
    """The configuration that the repository is committed with."""
    return load.check(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))


@pytest.mark.parametrize(("group", "field", "value", "message"), REFUSED)
def test_a_value_out_of_range_is_refused_in_one_line(
    sound: schema.Project, group: str, field: str, value: Any, message: str
) -> None:
    start = (
        replace(getattr(sound, group), units=[256, 128], dropout=[0.5, 0.3])
        if group == "head"
        else getattr(sound, group)
    )
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        replace(start, **{field: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("group", "field", "value"), ACCEPTED)
def test_the_ends_of_a_range_are_in_it(sound: schema.Project, group: str, field: str, value: Any) -> None:
    assert getattr(replace(getattr(sound, group), **{field: value}), field) == value


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("units", {}, "head.units"),
        ("units", [[1]], "head.units"),
        ("dropout", [{"rate": 0.1}], "head.dropout"),
        ("pooling", {"a": 1}, "head.pooling"),
        ("un\nits", 1, "head.'un"),
    ],
)
def test_what_yaml_nests_where_a_value_is_meant_is_refused_by_name_and_in_one_line(
    sound: schema.Project, field: str, value: Any, named: str
) -> None:
    values = asdict(sound)
    values["head"][field] = value
    with pytest.raises(ValueError, match=named) as caught:
        load.check(values)
    assert len(str(caught.value).splitlines()) == 1


def test_a_head_may_have_no_hidden_layers(sound: schema.Project) -> None:
    assert replace(sound.head, units=[], dropout=[]).units == []


def test_every_group_with_a_range_is_tested() -> None:
    groups = {field.name for field in fields(schema.Project)} - {"compiled_from"}
    assert {group for group, *_ in REFUSED} == groups


@pytest.mark.parametrize("rate", [1e-3, 2e-3])
def test_phase_2_must_be_slower_than_phase_1_unless_a_fast_one_is_meant(sound: schema.Project, rate: float) -> None:
    phase1 = replace(sound.phase1, learning_rate=1e-3)
    fast = replace(sound.phase2, learning_rate=rate)
    with pytest.raises(
        ValueError, match=r"phase2\.learning_rate: expected a rate below phase1\.learning_rate \(0\.001\)"
    ):
        replace(sound, phase1=phase1, phase2=fast)
    replace(sound, phase1=phase1, phase2=replace(fast, allow_high_rate=True))
    replace(sound, phase1=phase1, phase2=replace(fast, learning_rate=9e-4))


def test_something_must_be_left_to_train_on(sound: schema.Project) -> None:
    with pytest.raises(ValueError, match=r"data\.val \+ data\.test: expected 0\.9 at most.*received 1"):
        replace(sound, data=replace(sound.data, val=0.5, test=0.5))


def test_an_image_is_not_smaller_than_the_network_takes(sound: schema.Project) -> None:
    inception = replace(sound.backbone, name="inception_v3", weights="imagenet")
    replace(sound, backbone=inception, image=replace(sound.image, size=75))
    with pytest.raises(
        ValueError, match=r"^image\.size: expected 75 pixels or more, as inception_v3 needs, received 74$"
    ):
        replace(sound, backbone=inception, image=replace(sound.image, size=74))


def test_of_some_variables_alone_the_statistics_do_not_move(sound: schema.Project) -> None:
    pattern = replace(sound.phase2, unfreeze="variables:block_6", batch_norm="trainable_affine")
    with pytest.raises(
        ValueError, match=r"^phase2\.batch_norm: expected .* where phase2\.unfreeze is variables:…, rec"
    ):
        replace(pattern, batch_norm="train")


def test_values_live_in_yaml_only_and_come_back_as_they_were(sound: schema.Project) -> None:
    for group in fields(schema.Project):
        if isinstance(group.type, type) and group.type is not str:
            for field in fields(group.type):
                assert field.default is MISSING and field.default_factory is MISSING, f"{group.name}.{field.name}"
    assert load.check(asdict(sound)) == sound


def test_the_schema_imports_nothing_heavy() -> None:
    heavy = ("tensorflow", "keras", "hydra", "numpy")
    code = f"import sys, thaw.config.schema; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.stdout, done.returncode) == ("[]\n", 0), done.stderr


def test_a_network_from_outside_the_table_says_what_it_needs() -> None:
    assert schema.Backbone("custom", "builder", "mine:build", "0..1", "").builder == "mine:build"
    assert schema.Backbone("keras_hub", "presets/small", "", "imagenet", "").weights == "presets/small"
    with pytest.raises(ValueError, match=r"backbone.builder: expected package\.module:function, received ''"):
        schema.Backbone("custom", "random", "", "0..1", "")
    with pytest.raises(ValueError, match=r"backbone.weights: expected a folder or a handle, received 'imagenet'"):
        schema.Backbone("saved_model", "imagenet", "", "0..1", "")


def test_workers_have_one_gpu_each() -> None:
    compute = load.check(yaml.safe_load(load.compose(["data=folder"], ()))).compute
    with pytest.raises(
        ValueError, match=r"^compute\.devices: expected 1 where several workers share .*, received 2; start"
    ):
        replace(compute, workers=2, devices=2)
    assert replace(compute, workers=2, devices="all").workers == 2


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("default", ("auto", 1, 1, "")),
        ("cpu", ("cpu", 1, 1, "")),
        ("gpu", ("gpu", 1, 1, "")),
        ("gpus", ("auto", "all", 1, "")),
        ("ray", ("auto", 1, 1, "auto")),
        ("cluster", ("auto", "all", "all", "auto")),
    ],
)
def test_an_option_of_compute_says_what_computes_and_nothing_else(option: str, expected: tuple[Any, ...]) -> None:
    found, default = (
        asdict(load.check(yaml.safe_load(load.compose(["data=folder", f"compute={name}"], ()))).compute)
        for name in (option, "default")
    )
    names = ("device", "devices", "workers", "ray")
    assert tuple(found.pop(name) for name in names) == expected
    assert all(found[name] == value for name, value in default.items() if name not in names)
