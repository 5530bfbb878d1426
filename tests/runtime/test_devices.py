import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from thaw.runtime import devices
from thaw.runtime.framework import tf


def test_float32_is_exact_everywhere_but_where_training_asks_for_less() -> None:
    enabled = tf.config.experimental.tensor_float_32_execution_enabled
    assert not enabled()
    for allowed in (True, False):
        with devices.tensor_float_32(allowed):
            assert enabled() is allowed
    with pytest.raises(RuntimeError), devices.tensor_float_32(True):
        raise RuntimeError
    assert not enabled()


FULL = tf.errors.ResourceExhaustedError(None, None, "failed to allocate memory")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FULL, True),
        (tf.errors.InternalError(None, None, "CUDA_ERROR_OUT_OF_MEMORY: out of memory"), True),
        (tf.errors.UnknownError(None, None, "CUDNN_STATUS_ALLOC_FAILED"), True),
        (tf.errors.InternalError(None, None, "a kernel failed"), False),
        (tf.errors.InvalidArgumentError(None, None, "out of memory is only mentioned"), False),
    ],
)
def test_a_full_memory_is_told_from_other_errors(error: tf.errors.OpError, expected: bool) -> None:
    assert devices.is_full(error) is expected


def test_a_full_memory_becomes_one_line_that_names_the_batch_size_to_set() -> None:
    half = r"^phase2\.batch_size: expected .*, received 48 at once; set phase2\.batch_size=24, or"
    with pytest.raises(ValueError, match=half) as error, devices.enough_memory("phase2.batch_size", 48):
        raise FULL
    assert "\n" not in str(error.value)
    none = r"received 1 at once; choose a smaller network or image\.size"
    with pytest.raises(ValueError, match=none), devices.enough_memory("phase2.batch_size", 1):
        raise FULL
    with pytest.raises(tf.errors.NotFoundError), devices.enough_memory("phase2.batch_size", 48):
        raise tf.errors.NotFoundError(None, None, "no such file")


def test_the_driver_says_its_version(tmp_path: Path) -> None:
    version = tmp_path / "version"
    assert devices.driver(version) == ""
    version.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23\nGCC version: gcc 12\n")
    assert devices.driver(version) == "580.95.05"
    version.write_text("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\n")
    assert devices.driver(version) == "570.86.15"


def test_a_record_says_what_computed_and_whether_it_is_repeatable() -> None:
    found = devices.record()
    assert found["name"] == devices.name()
    assert isinstance(found["deterministic"], bool)
    assert ("driver" in found) == devices.on_gpu()


@pytest.mark.gpu
def test_a_gpu_is_found_with_its_driver() -> None:
    assert devices.place() == "/GPU:0"
    assert devices.driver()
    assert devices.name() != "cpu"


@pytest.fixture
def hidden(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return what of GPUs is left visible, where there is one; the last is what holds."""
    left = [["GPU:0"]]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda _kind: left[-1])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda some, _kind: left.append(some))
    return left


def test_the_processor_computes_where_it_is_chosen_although_there_is_a_gpu(hidden: list[list[str]]) -> None:
    for wanted in ("auto", "gpu"):
        devices.choose(wanted)
        assert devices.on_gpu() and devices.place() == "/GPU:0" and "CUDA_VISIBLE_DEVICES" not in os.environ
    devices.choose("cpu")
    assert not devices.on_gpu() and devices.place() == "/CPU:0" and devices.name() == "cpu"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"  # of processes that are started from here
    assert hidden == [["GPU:0"], []]


def test_without_a_gpu_the_choice_of_one_is_an_error_in_one_line(hidden: list[list[str]]) -> None:
    hidden.append([])
    for harmless in ("auto", "cpu"):
        devices.choose(harmless)
    with pytest.raises(
        ValueError, match=r"^compute\.device: expected a GPU .* received none; .*compute\.device=auto$"
    ):
        devices.choose("gpu")
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_more_devices_than_there_are_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^compute\.devices: expected .* received 64; set compute\.devices=\d"):
        devices.several(64)


@pytest.mark.parametrize(
    ("there", "expected"), [([], ["/device:CPU:0"]), (["0", "1"], ["/device:GPU:0", "/device:GPU:1"])]
)
def test_all_devices_are_the_gpus_that_are_there_or_the_processor(
    monkeypatch: pytest.MonkeyPatch, there: list[str], expected: list[str]
) -> None:
    def logical(kind: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=f"/device:{kind}:{number}") for number in (there if kind == "GPU" else ["0"])]

    monkeypatch.setattr(devices, "on_gpu", lambda: bool(there))
    monkeypatch.setattr(tf.config, "list_logical_devices", logical)
    assert devices.several("all") == expected
