"""Which images leave embeddings: a class without any would have no mean, and all of its images would look unlike."""

import numpy as np
import pytest

from thaw.evaluation import out_of_distribution
from thaw.features import embeddings


@pytest.mark.parametrize(
    ("sizes", "most"), [([90, 10] * 200, 800), ([5000, 1, 1, 3], 1000), ([7] * 30, 100), ([1000, 9], 500)]
)
def test_each_class_has_some_before_frequent_ones_have_more(sizes: list[int], most: int) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    for given in (labels, np.random.default_rng(0).permutation(labels)):
        some = embeddings.by_class(given, most)
        assert len(some) == most and (np.diff(some) > 0).all()
        fewest = min(embeddings.SOME, most // len(sizes))
        assert (np.bincount(given[some], minlength=len(sizes)) >= np.minimum(sizes, fewest)).all()


def test_all_are_taken_where_they_are_no_more_than_allowed_and_never_more() -> None:
    assert embeddings.by_class(np.array([2, 0, 0]), 3).tolist() == [0, 1, 2]
    assert embeddings.by_class(np.array([], np.int64), 3).tolist() == []
    assert len(np.unique(embeddings.by_class(np.arange(50), 20))) == 20  # more classes than images


def test_no_class_of_many_is_called_unlike_as_a_whole() -> None:
    random = np.random.default_rng(0)
    labels = np.repeat(np.arange(400), [90, 10] * 200)
    means = random.normal(size=(400, 32))

    def made(of: np.ndarray) -> np.ndarray:
        return np.asarray(means[of] + 0.3 * random.normal(size=(len(of), 32)))

    some = labels[embeddings.by_class(labels, 1000)]
    parameters = out_of_distribution.fit(made(some), some)
    held, tested = (random.choice(labels, 4000) for _ in range(2))
    least = out_of_distribution.threshold(out_of_distribution.score(made(held), parameters), 0.05)
    flagged = out_of_distribution.score(made(tested), parameters) > least
    for few in (False, True):
        assert flagged[(tested % 2 == 1) == few].mean() < 0.15
