"""A network from outside the catalog that a format can't hold is refused before anything is trained."""

from dataclasses import replace
from pathlib import Path

import pytest

from thaw import paths
from thaw.config import schema
from thaw.exports import rehearsal
from thaw.networks import environment
from thaw.runtime.framework import tf

IMAGE = schema.Image(32, "squash", "bilinear", antialias=True)
OPTIONS = schema.Export(["onnx"], 1e-4, 1.0, 0.9, 16, 100, latency=False, model="phase2")


class Network(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """A layer with weights, and behind it perhaps singular values, which neither ONNX nor LiteRT has."""

    def __init__(self, *, singular: bool) -> None:
        super().__init__()
        self.kernel = tf.Variable(tf.random.stateless_normal((3, 3, 3, 4), (0, 1)), name="kernel")
        self.singular = singular

    @tf.function(input_signature=[tf.TensorSpec((None, 32, 32, 3), tf.float32)])  # type: ignore[untyped-decorator]
    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        values = tf.nn.conv2d(images, self.kernel, 4, "SAME")
        return values * tf.linalg.svd(values, compute_uv=False)[..., None, :] if self.singular else values


def saved(folder: Path, *, singular: bool) -> schema.Backbone:
    tf.saved_model.save(Network(singular=singular), str(folder))
    return schema.Backbone("saved_model", str(folder), "", "0..1", "")


def check(backbone: schema.Backbone, *formats: str) -> None:
    rehearsal.check(backbone, IMAGE, replace(OPTIONS, formats=list(formats)), environment.describe(backbone))


def test_what_a_format_can_hold_is_tried_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    backbone = saved(tmp_path / "plain", singular=False)
    check(backbone, "onnx")
    assert len(list(paths.REHEARSED.iterdir())) == 1

    def tried(*_: object) -> None:
        raise ValueError("tried")

    monkeypatch.setattr(rehearsal, "_try", tried)
    check(backbone, "onnx")
    of_the_catalog = replace(backbone, name="efficientnet_lite0", weights="package", pixels="")
    check(of_the_catalog, "onnx", "litert")
    with pytest.raises(ValueError, match="tried"):
        check(backbone, "onnx", "litert")
    (tmp_path / "plain" / "assets" / "new").write_bytes(b"")  # another network, as far as anybody can tell
    with pytest.raises(ValueError, match="tried"):
        check(backbone, "onnx")


@pytest.mark.parametrize("name", ["onnx", "litert"])
def test_what_a_format_cannot_hold_is_refused_by_its_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = r"^export\.formats: expected a network that an? \w+ file can hold, .*Svd"
    with pytest.raises(ValueError, match=expected) as error:
        check(saved(tmp_path / "singular", singular=True), name)
    assert "\n" not in str(error.value) and str(error.value).endswith("set export.formats=[saved_model]")
    assert not paths.REHEARSED.exists()
