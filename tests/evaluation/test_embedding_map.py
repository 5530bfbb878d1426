from pathlib import Path

import numpy as np
import pytest
from sklearn.decomposition import PCA

from thaw import paths, records
from thaw.evaluation import embedding_map


def test_the_map_is_scikit_learns_but_for_signs_which_are_fixed() -> None:
    random = np.random.default_rng(0)
    embeddings = random.normal(size=(60, 40)) * np.linspace(5, 1, 40) + 3
    places, explained = embedding_map.project(embeddings)
    oracle = PCA(2).fit(embeddings)
    wanted = oracle.transform(embeddings)
    signs = np.sign((places * wanted).sum(axis=0))
    np.testing.assert_allclose(places, wanted * signs, atol=1e-8)
    np.testing.assert_allclose(explained, oracle.explained_variance_ratio_)
    np.testing.assert_array_equal(embedding_map.project(embeddings.copy())[0], places)
    directions = oracle.components_ * signs[:, None]
    assert (directions[np.arange(2), np.abs(directions).argmax(axis=1)] > 0).all()


def test_few_images_whose_centre_is_exactly_nought_have_a_map() -> None:
    half = np.array([[4.0, 0, 0, 2, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 3]])
    places, explained = embedding_map.project(np.concatenate([half, -half]))
    assert 0 < explained[1] < explained[0] < 1
    np.testing.assert_allclose(places[:3], -places[3:], atol=1e-12)


@pytest.mark.parametrize("embeddings", [np.ones((30, 8)), np.ones((2, 8)), np.arange(20.0).reshape(10, 2)])
def test_what_has_no_two_directions_has_no_map(embeddings: np.ndarray) -> None:
    places, explained = embedding_map.project(embeddings)
    assert places.shape == (len(embeddings), 2) and not places.any() and explained == [0.0, 0.0]


def test_the_coordinates_are_whole_and_keep_the_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    embeddings = np.random.default_rng(0).normal(size=(50, 30)).astype(np.float16)
    embeddings[:, 0] *= 20
    embedding_map.write(embeddings, embedding_map.spread(500, 50))
    found = records.read_json(paths.EMBEDDING_MAP)
    assert len(found["x"]) == len(found["y"]) == len(found["images"]) == 50 and found["images"][-1] == 499
    assert (min(found["x"]), max(found["x"])) == (0, embedding_map.SIDE)
    assert min(found["y"]) > 0 and max(found["y"]) - min(found["y"]) < 600  # one scale for both
