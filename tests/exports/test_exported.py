from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thaw.exports import exported
from thaw.runtime.framework import tf


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(files):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    return files


def model(error: Exception, most: int, bad: Sequence[int] = ()) -> exported.Exported:
    """A model that raises the error for more images at once than ``most``, and where it sees a bad one."""
    seen: list[bytes] = []

    def say(images: Sequence[bytes]) -> list[exported.Answer]:
        seen.extend(data for data in images if data not in seen)
        if len(images) > most or any(seen.index(data) in bad for data in images):
            raise error
        return exported.answered(np.full((len(images), 2), 0.5, np.float32))

    return exported.Exported(["a", "b"], say)


FULL = [MemoryError("of the machine"), tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")]


@pytest.mark.parametrize("full", FULL, ids=["machine", "tensorflow"])
def test_too_little_memory_is_not_called_a_damaged_image(pictures: list[Path], full: Exception) -> None:
    with pytest.raises(type(full)):
        list(exported.answers(model(full, most=0), pictures))
    # What is too much at once may do one by one.
    answered = dict(exported.answers(model(full, most=1), pictures))
    assert all(isinstance(said, exported.Answer) for said in answered.values())


def test_an_image_that_is_none_takes_nothing_from_the_others(pictures: list[Path]) -> None:
    said = [said for _, said in exported.answers(model(ValueError("no image"), most=9, bad=[1]), pictures)]
    assert [isinstance(each, exported.Answer) for each in said] == [True, False, True]
    assert "damaged" in str(said[1])
