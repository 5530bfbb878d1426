from pathlib import Path

import numpy as np
import pytest

from thaw.features import cache, store, stored

SHAPE = (5, 6, 7)


def activations(count: int, seed: int = 0) -> np.ndarray:
    """Activations of channels that differ much in size, and one that is all zero."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(count, *SHAPE)) * np.geomspace(1e-3, 1e3, SHAPE[-1])
    values[..., 2] = 0
    return values.astype(np.float16)


def test_int8_is_off_by_half_a_step_of_its_channel_at_most_and_takes_about_half_the_bytes() -> None:
    values = activations(9)
    rows = stored.encoded(stored.INT8, values)
    assert rows.shape == (9, stored.size(stored.INT8, SHAPE)) == (9, 5 * 6 * 7 + 2 * 7)
    found = stored.decoded(stored.INT8, rows, SHAPE)
    largest = np.abs(values.astype(np.float32)).max(axis=(1, 2), keepdims=True)
    # Half a level, and what rounding the scale to 11 bits adds at the largest one.
    assert (np.abs(found - values.astype(np.float32)) <= largest * (0.5 / 127 + 2.0**-11) + 1e-7).all()
    assert (found[..., 2] == 0).all() and np.abs(found).max() > 0


def test_what_is_stored_of_an_image_depends_on_no_other() -> None:
    values = activations(6)
    whole = stored.encoded(stored.INT8, values)
    for number in range(6):
        assert stored.encoded(stored.INT8, values[number : number + 1]).tobytes() == whole[number].tobytes()
    again = stored.decoded(stored.INT8, whole, SHAPE)
    np.testing.assert_array_equal(stored.encoded(stored.INT8, again.astype(np.float16))[:, 14:], whole[:, 14:])


def test_float16_is_stored_to_the_bit() -> None:
    values = activations(4)
    rows = stored.encoded(stored.FLOAT16, values)
    assert rows.tobytes() == values.tobytes() and rows.shape == (4, stored.size(stored.FLOAT16, SHAPE))
    assert stored.decoded(stored.FLOAT16, rows, SHAPE).tobytes() == values.tobytes()


def test_the_largest_half_stays_finite_in_half_precision() -> None:
    values = np.full((1, 2, 2, 1), 65504, np.float16)
    found = stored.decoded(stored.INT8, stored.encoded(stored.INT8, values), (2, 2, 1))
    assert np.isfinite(found.astype(np.float16)).all() and found.min() > 65000


@pytest.mark.parametrize("kind", stored.KINDS)
def test_the_cache_gives_what_was_stored_in_either_precision(tmp_path: Path, kind: str) -> None:
    hashes = [cache.name(image=number) * 2 for number in range(5)]
    shapes = [(7,), SHAPE]
    opened = store.Store(str(tmp_path), "family", [["0" * 32, "1" * 32]], shapes, kind=kind)
    pooled = np.random.default_rng(1).normal(size=(5, 7)).astype(np.float32)
    values = activations(5).astype(np.float32)
    opened.add(opened.ask([(hashes, 1)]).missing, 0, hashes, [pooled, values])
    features, boundary = opened.readers(opened.ask([(hashes[::-1], 1)]))[0]
    places, views = np.arange(5), np.zeros(5, np.int64)
    np.testing.assert_array_equal(features(places, views), pooled.astype(np.float16)[::-1])
    expected = stored.decoded(kind, stored.encoded(kind, values.astype(np.float16)), SHAPE)[::-1]
    np.testing.assert_array_equal(boundary(places, views), expected.astype(np.float32))
    assert boundary.half(places, views).tobytes() == expected.astype(np.float16).tobytes()
    assert boundary.row_bytes == 2 * np.prod(SHAPE)
    entry = opened.entries[0][1]
    assert entry.data.stat().st_size == 5 * stored.size(kind, SHAPE)
    with entry.data.open("r+b") as file:
        file.seek(3 * entry.row_bytes)
        file.write(b"\xff")
    again = cache.Entry(entry.path, SHAPE, kind).find(hashes)
    assert (again < 0).tolist() == [False, False, False, True, False]
