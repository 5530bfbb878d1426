import threading
import time

import numpy as np
import pytest

from thaw.images import manifest
from thaw.training import mixing
from thaw.training.read_ahead import AHEAD, ReadAhead


def mixed(read: manifest.Source) -> mixing.Mixed:
    return mixing.Mixed(read, np.arange(40) % 3, 4, 2, 0, classes=3, alpha=0.2)


def values(indices: np.ndarray, views: np.ndarray) -> np.ndarray:
    return np.stack([indices, views], axis=1).astype(np.float32)


def test_batches_are_those_of_the_source_in_each_epoch_also_after_one_that_was_left() -> None:
    plain, ahead = mixed(values), ReadAhead(mixed(values))
    for taken in (len(plain), 3, len(plain)):  # of the second epoch some, as when training is stopped
        for number in range(taken):
            for ours, theirs in zip(ahead[number], plain[number], strict=True):
                np.testing.assert_array_equal(ours, theirs)
        plain.on_epoch_end()
        ahead.on_epoch_end()
    assert len(ahead) == len(plain)
    for batch, expected in zip(ahead.epoch(), (plain[number] for number in range(len(plain))), strict=True):
        np.testing.assert_array_equal(batch[0], expected[0])


def test_the_next_batches_are_read_before_they_are_asked_for_and_no_more() -> None:
    read, mine = list[int](), threading.current_thread()

    def noted(indices: np.ndarray, views: np.ndarray) -> np.ndarray:
        assert threading.current_thread() is not mine
        read.append(len(indices))
        return values(indices, views)

    ahead = ReadAhead(mixed(noted))
    for number in range(len(ahead)):
        ahead[number]
        wanted, end = min(number + 1 + AHEAD, len(ahead)), time.monotonic() + 20
        while len(read) < wanted and time.monotonic() < end:
            time.sleep(0.001)
        assert len(read) == wanted
    time.sleep(0.05)
    assert len(read) == len(ahead)


def test_what_cannot_be_read_is_an_error_of_its_batch() -> None:
    def broken(indices: np.ndarray, views: np.ndarray) -> np.ndarray:
        if 7 in indices:
            raise ValueError("expected image 7, found none")
        return values(indices, views)

    ahead = ReadAhead(mixing.Mixed(broken, np.arange(12) % 3, 4, classes=3, alpha=0))
    assert len(ahead[0][1]) == 4
    with pytest.raises(ValueError, match="image 7"):
        ahead[1]
    assert len(ahead[2][1]) == 4
