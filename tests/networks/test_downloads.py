import hashlib
from pathlib import Path

import pytest

from thaw import records
from thaw.networks import downloads
from thaw.runtime.framework import keras

BYTES = b"weights"
SHA256, MD5 = hashlib.sha256(BYTES).hexdigest(), hashlib.md5(BYTES, usedforsecurity=False).hexdigest()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where Keras keeps what it fetches, still empty."""
    monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path / "keras"))
    (tmp_path / "keras").mkdir()
    return tmp_path / "keras" / "models"


def published(folder: Path, pinned: str = "", data: bytes = BYTES) -> downloads.Download:
    """A file to fetch, from a folder."""
    (folder / "theirs.h5").write_bytes(data)
    return downloads.Download("ours.h5", (folder / "theirs.h5").as_uri(), pinned)


@pytest.mark.parametrize(
    ("builder", "name", "digits"),
    [
        ("MobileNetV2", "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5", 0),
        ("MobileNetV3Small", "weights_mobilenet_v3_small_224_1.0_float_no_top_v2.h5", 32),
        ("EfficientNetB0", "efficientnetb0_notop.h5", 32),
        ("ResNet50", "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5", 32),
    ],
)
def test_keras_says_what_it_would_fetch_and_does_not(home: Path, builder: str, name: str, digits: int) -> None:
    build = getattr(keras.applications, builder)
    found = downloads.wanted(lambda: build(include_top=False, weights="imagenet", input_shape=(224, 224, 3)))
    assert found.name == name
    assert found.url.endswith(name)
    assert len(found.pinned) == digits
    assert found.path() == home / name
    assert not home.exists()


def test_keras_fetches_as_before_afterwards(home: Path, tmp_path: Path) -> None:
    downloads.wanted(lambda: keras.applications.MobileNetV2(include_top=False, input_shape=(224, 224, 3)))
    url = published(tmp_path).url
    assert Path(keras.utils.get_file("any.h5", url, cache_subdir="models")) == home / "any.h5"


@pytest.mark.parametrize(("pinned", "sha256"), [(MD5, ""), (SHA256, ""), ("", SHA256), (MD5, SHA256)])
def test_what_is_pinned_is_fetched_once(home: Path, tmp_path: Path, pinned: str, sha256: str) -> None:
    download = published(tmp_path, pinned)
    assert downloads.obtain(download, sha256) == home / "ours.h5"
    (tmp_path / "theirs.h5").unlink()
    assert downloads.obtain(download, sha256).read_bytes() == BYTES


def test_nothing_is_fetched_without_a_hash(home: Path, tmp_path: Path) -> None:
    download = published(tmp_path)
    with pytest.raises(
        ValueError, match=r"^backbone\.sha256: expected the sha256 that ours\.h5 is to have, "
    ) as error:
        downloads.obtain(download, "")
    assert "\n" not in str(error.value)
    assert f"fetch {download.url}, check that it is the file you want, and set backbone.sha256=… to " in str(
        error.value
    )
    assert "`sha256sum ours.h5`" in str(error.value)
    assert str(home / "ours.h5") in str(error.value)
    assert not home.exists()
    # A file that somebody has put there is taken.
    home.mkdir()
    (home / "ours.h5").write_bytes(BYTES)
    assert records.sha256(downloads.obtain(download, "")) == SHA256


@pytest.mark.parametrize(
    ("pinned", "sha256", "message"),
    [
        (
            MD5,
            "",
            rf"ours\.h5: expected the hash {MD5}, which Keras pins, received [0-9a-f]+; delete the",
        ),
        (SHA256, "", rf"ours\.h5: expected the hash {SHA256}, which Keras pins, received [0-9a-f]+; delete the"),
        (
            "",
            SHA256,
            rf"^backbone\.sha256: expected .*ours\.h5 to have the sha256 {SHA256}, received [0-9a-f]+; ",
        ),
    ],
)
def test_another_file_is_refused_be_it_fetched_or_found(
    home: Path, tmp_path: Path, pinned: str, sha256: str, message: str
) -> None:
    download = published(tmp_path, pinned, data=b"others")
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            downloads.obtain(download, sha256)
        assert (home / "ours.h5").read_bytes() == b"others"


@pytest.mark.usefixtures("home")
def test_without_internet_it_is_said_what_to_put_where(tmp_path: Path) -> None:
    download = published(tmp_path, MD5)
    (tmp_path / "theirs.h5").unlink()
    with pytest.raises(ValueError, match=r"^backbone\.weights=imagenet: expected to download ours\.h5, ") as error:
        downloads.obtain(download, "")
    said = str(error.value)
    assert "\n" not in said
    assert f"fetch {download.url} elsewhere and put it here as {download.path()}" in said
    assert "backbone.weights" in said


def test_any_file_is_right_where_no_hash_is_asked_for(tmp_path: Path) -> None:
    downloads.check(tmp_path / "not there", "")


def test_weights_that_keras_would_not_fetch_are_a_fault_of_the_program() -> None:
    with pytest.raises(RuntimeError, match="expected that the network asks for its weights"):
        downloads.wanted(lambda: None)
