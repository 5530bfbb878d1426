from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from thaw.data import similar_vectors

LIMIT = 0.78


def unit(rows: NDArray[np.floating[Any]]) -> similar_vectors.Floats:
    lengths: NDArray[np.float64] = np.sqrt(np.square(rows, dtype=np.float64).sum(1, keepdims=True))
    return (rows / lengths).astype(np.float32)


def planted(count: int, channels: int, products: NDArray[np.float64], seed: int = 0) -> similar_vectors.Floats:
    """Vectors in any direction, and behind them one more for each product, which the first of them have with it."""
    chance = np.random.default_rng(seed)
    vectors = unit(chance.standard_normal((count, channels)))
    first = vectors[: len(products)]
    other = chance.standard_normal(first.shape)
    across = unit(other - (other * first).sum(1, keepdims=True) * first)
    mixed = products[:, None] * first + np.sqrt(1 - products[:, None] ** 2) * across
    return np.concatenate([vectors, unit(mixed)])


def every(found: Iterable[similar_vectors.Pairs]) -> list[tuple[int, int]]:
    return [pair for rows, columns in found for pair in zip(rows.tolist(), columns.tolist(), strict=True)]


def by_caps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let few vectors be put into caps, however full these are."""
    monkeypatch.setattr(similar_vectors, "EXACT", 0)
    monkeypatch.setattr(similar_vectors, "COST", 0.0)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which the products of each comparison, all with all of some, are appended."""
    compare, products = similar_vectors._all, list[int]()

    def compared(some: similar_vectors.Floats, limit: float, second: Any) -> Iterable[similar_vectors.Pairs]:
        products.append(len(some) ** 2)
        return compare(some, limit, second)

    monkeypatch.setattr(similar_vectors, "_all", compared)
    return products


def test_caps_find_the_pairs_that_comparing_all_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    products = np.random.default_rng(1).uniform(0.79, 1.0, 2000)
    vectors = planted(4000, 51, products)
    exact = every(similar_vectors.pairs(vectors, LIMIT))
    assert len(exact) == len(set(exact)) and {(n, n + 4000) for n in range(2000)} <= set(exact)
    by_caps(monkeypatch)
    found = every(similar_vectors.pairs(vectors, LIMIT))
    assert len(found) == len(set(found)), "each pair once, also of several caps"
    assert set(found) <= set(exact)
    missed = [products[row] for row, column in set(exact) - set(found) if column - row == 4000]
    assert len(missed) <= 4 and max(missed, default=0) < 0.85, "one in a thousand at the limit, none well beyond"
    for name, value in (("SIDE", 100), ("BLOCK", 700), ("CAPS", 64), ("WAITING", 10), ("HANDED", 7)):
        monkeypatch.setattr(similar_vectors, name, value)
    again = every(similar_vectors.pairs(vectors, LIMIT))
    assert set(again) == set(found), "blocks are memory, not results"


@pytest.mark.parametrize("product", [0.78, 0.9])
def test_a_pair_is_missed_as_often_as_is_said(product: float) -> None:
    caps, height, count = 64, 1.6, 4000
    said = similar_vectors.missed(caps, height, product)
    vectors = planted(count, 51, np.full(count, product))
    heights = vectors @ np.random.default_rng(2).standard_normal((51, caps)).astype(np.float32) >= height
    missed = 1 - (heights[:count] & heights[count:]).any(1).mean()
    assert 0.01 < said < 0.9 and missed == pytest.approx(said, abs=0.03)  # also by these 64 directions


def test_the_caps_for_any_number_keep_to_the_chance_at_the_limit() -> None:
    for count in (50_001, 10**6, 10**8):
        caps = similar_vectors.cap_count(count)
        height = similar_vectors._height(caps, LIMIT)
        assert similar_vectors.missed(caps, height, LIMIT) == pytest.approx(similar_vectors.MISSED, rel=0.01)
        assert similar_vectors.missed(caps, height, 0.9) < 2e-5


def test_vectors_that_all_lie_in_one_direction_are_told_apart_by_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    centre = np.full(62, 0.9 / np.sqrt(62), np.float32)
    rest = planted(3000, 62, np.full(500, 0.9))
    vectors = unit(centre + 0.436 * rest)
    exact = set(every(similar_vectors.pairs(vectors, 0.97)))
    by_caps(monkeypatch)
    products = counted(monkeypatch)
    assert set(every(similar_vectors.pairs(vectors, 0.97, centre, 0.75))) == exact
    assert len(exact) >= 450 and sum(products) < 0.8 * len(vectors) ** 2


def test_vectors_that_crowd_are_compared_all_with_all_where_caps_would_take_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = planted(similar_vectors.EXACT + 1, 51, np.empty(0))
    assert similar_vectors.COST * similar_vectors._work(many, LIMIT, many, LIMIT, similar_vectors.HANDED_ON) < 1
    many[::2] = many[0]
    assert similar_vectors.COST * similar_vectors._work(many, LIMIT, many, LIMIT, similar_vectors.LOOKED_AT) > 1
    crowded = np.zeros((4000, 51), np.float32)
    crowded[:, :6] = planted(3800, 6, np.full(200, 0.9999))
    exact = every(similar_vectors.pairs(crowded, 0.9995))
    assert len(exact) >= 200
    monkeypatch.setattr(similar_vectors, "EXACT", 3999)
    products = counted(monkeypatch)
    assert every(similar_vectors.pairs(crowded, 0.9995, None, LIMIT)) == exact
    assert products == [4000**2]


@pytest.mark.parametrize("caps", [False, True])
def test_a_pair_must_stand_the_second_look_where_there_is_one(caps: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    products = np.full(300, 0.9)
    vectors, others = planted(3000, 51, products), planted(3000, 20, np.linspace(0, 1, 300), seed=1)
    looked = 0

    def alike(one: similar_vectors.Floats, other: similar_vectors.Floats) -> NDArray[np.bool_]:
        nonlocal looked
        looked += len(one)
        stand: NDArray[np.bool_] = np.einsum("pk,pk->p", one, other) >= 0.5
        return stand

    if caps:
        by_caps(monkeypatch)
    every_one = every(similar_vectors.pairs(vectors, LIMIT))
    found = every(similar_vectors.pairs(vectors, LIMIT, second=similar_vectors.Second(others, alike)))
    stand = {(one, other) for one, other in every_one if others[one] @ others[other] >= 0.5}
    assert set(found) == stand and 140 < len(stand) < 160 and len(every_one) >= 295
    assert looked < 30 * len(every_one), (
        "only pairs that reach the limit are looked at again, once for each of their caps"
    )
