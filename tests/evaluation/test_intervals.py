"""Plain intervals and tests are those of SciPy and the literature; with units they cover what they say."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize, stats

from thaw.evaluation import intervals


def pair(both: int, only_a: int, only_b: int, neither: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two rows of right and wrong with the given counts."""
    counts = [both, only_a, only_b, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.999])
@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 40), (40, 40), (3, 40), (887, 1000)])
def test_wilson_agrees_with_scipy(successes: int, n: int, confidence: float) -> None:
    expected = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    low, high = intervals.wilson(successes, n, confidence)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= low <= successes / n <= high <= 1


@pytest.mark.parametrize(
    ("only_a", "only_b"),
    [(0, 0), (0, 1), (5, 5), (2, 12), (12, 2), (0, 30), (400, 470), (49_500, 50_500), (0, 100_000)],
)
def test_mcnemar_agrees_with_the_binomial_test_of_scipy(only_a: int, only_b: int) -> None:
    result = intervals.mcnemar(*pair(3, only_a, only_b, 4))
    expected = stats.binomtest(only_a, only_a + only_b, 0.5).pvalue if only_a + only_b else 1.0
    assert (result["only_a"], result["only_b"]) == (only_a, only_b)
    assert result["p_value"] == pytest.approx(expected, rel=1e-6, abs=1e-300)


def test_difference_gives_the_published_interval() -> None:
    # Fagerland, Lydersen and Laake 2014, airway reactivity of 21 children: Tango's interval is -0.517 to -0.026.
    result = intervals.difference(*pair(1, 7, 1, 12), 0.95)
    assert result["accuracy"] == pytest.approx(-6 / 21)
    assert (result["accuracy_low"], result["accuracy_high"]) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize(("both", "only_a", "only_b", "neither"), [(80, 5, 9, 6), (300, 0, 4, 20), (10, 30, 2, 1)])
def test_the_ends_of_the_difference_lie_where_the_score_test_turns(
    both: int, only_a: int, only_b: int, neither: int
) -> None:
    n = both + only_a + only_b + neither
    result = intervals.difference(*pair(both, only_a, only_b, neither), 0.9)
    for end, sign in ((result["accuracy_low"], 1), (result["accuracy_high"], -1)):
        # The likeliest probabilities of the four cells with the difference held at this end, found numerically.
        def unlikely(lost: float, end: float = end) -> float:
            gained = lost + end
            logs = (only_a * math.log(lost), only_b * math.log(gained), (both + neither) * math.log(1 - lost - gained))
            return -sum(logs)

        bounds = (max(0.0, -end) + 1e-9, (1 - end) / 2 - 1e-9)
        lost = optimize.minimize_scalar(unlikely, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
        score = (only_b - only_a - n * end) / math.sqrt(n * (2 * lost + end - end**2))
        assert score == pytest.approx(sign * stats.norm.ppf(0.95), abs=1e-4)


def test_difference_holds_at_the_edges_and_turns_with_its_sides() -> None:
    z2 = stats.norm.ppf(0.975) ** 2
    same = intervals.difference(*pair(5, 0, 0, 5), 0.95)
    assert same["accuracy"] == 0
    assert (same["accuracy_low"], same["accuracy_high"]) == pytest.approx((-z2 / (10 + z2), z2 / (10 + z2)))
    one = intervals.difference(*pair(0, 0, 1, 0), 0.95)
    assert one["accuracy"] == one["accuracy_high"] == 1
    assert -1 < one["accuracy_low"] < 1
    forth = intervals.difference(*pair(50, 3, 11, 6), 0.95)
    back = intervals.difference(*pair(50, 11, 3, 6), 0.95)
    assert (forth["accuracy_low"], forth["accuracy_high"]) == pytest.approx(
        (-back["accuracy_high"], -back["accuracy_low"])
    )


def test_the_interval_of_the_difference_covers_the_truth_as_often_as_it_says() -> None:
    random = np.random.default_rng(7)
    cells = np.array([0.85, 0.03, 0.07, 0.05])  # both, only a, only b, neither
    covered = 0
    for counts in random.multinomial(120, cells, size=1000).tolist():
        result = intervals.difference(*pair(*counts), 0.95)
        covered += result["accuracy_low"] <= cells[2] - cells[1] <= result["accuracy_high"]
    assert 930 <= covered <= 970


def test_other_arguments_that_cannot_be_are_refused() -> None:
    for successes, n in ((2, 1), (-1, 3), (0, 0)):
        with pytest.raises(ValueError, match="wilson"):
            intervals.wilson(successes, n, 0.95)
    with pytest.raises(ValueError, match="confidence"):
        intervals.wilson(1, 2, 95)
    with pytest.raises(ValueError, match="one bool for each"):
        intervals.mcnemar(np.array([True]), np.array([True, False]))
    with pytest.raises(ValueError, match="one bool for each"):
        intervals.difference(np.array([1, 0]), np.array([1, 1]), 0.95)
    with pytest.raises(ValueError, match="units: expected one for each of the 2 images"):
        intervals.accuracy(np.array([True, False]), 0.95, np.array([0]))


# How images hang together: sizes of units. One unit of "one large" holds a quarter of all images.
UNITS: dict[str, Callable[[np.random.Generator, int], NDArray[np.int64]]] = {
    "fives": lambda random, count: np.full(count, 5),
    "unequal": lambda random, count: np.maximum(1, np.rint(np.exp(random.normal(1.5, 1.2, count)))).astype(int),
    "one large": lambda random, count: np.r_[np.full(count - 1, 5), 5 * (count - 1) // 3],
    "mostly single": lambda random, count: np.r_[np.ones(count * 8 // 10, int), np.full(count - count * 8 // 10, 5)],
}


def beta_binomial(
    random: np.random.Generator, sizes: NDArray[np.int64], share: float, correlation: float
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Right and wrong answers, whose correlation within a unit is given, and the units."""
    strength = (1 - correlation) / correlation
    chances = random.beta(share * strength, (1 - share) * strength, len(sizes))
    units = np.repeat(np.arange(len(sizes)), sizes)
    return random.random(len(units)) < chances[units], units


@pytest.mark.parametrize("share", [0.7, 0.9, 0.97])
@pytest.mark.parametrize("correlation", [0.1, 0.7])
@pytest.mark.parametrize("count", [8, 40])
@pytest.mark.parametrize("kind", UNITS)
def test_the_interval_of_an_accuracy_covers_it_though_images_hang_together(
    kind: str, count: int, correlation: float, share: float
) -> None:
    random, covered, rounds = np.random.default_rng(3), 0, 600
    for _ in range(rounds):
        correct, units = beta_binomial(random, UNITS[kind](random, count), share, correlation)
        low, high = intervals.accuracy(correct, 0.95, units)
        covered += low <= share <= high
    # Two points, and two standard errors of the simulation; above 97 % where few units tell little of a correlation.
    assert covered / rounds >= 0.93 - 2 * math.sqrt(0.05 * 0.95 / rounds)


def test_plain_intervals_of_correlated_images_cover_far_less_and_units_mend_it() -> None:
    random, rounds = np.random.default_rng(0), 1000
    covered = np.zeros(2)
    for _ in range(rounds):
        correct, units = beta_binomial(random, np.full(40, 5), 0.8, 0.7)
        ends = [intervals.accuracy(correct, 0.95, by) for by in (None, units)]
        covered += [low <= 0.8 <= high for low, high in ends]
    assert covered[0] / rounds < 0.75  # what the test is for
    assert 0.93 <= covered[1] / rounds <= 0.97


def equal_models(
    random: np.random.Generator, sizes: NDArray[np.int64], shares: tuple[float, float], correlation: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]:
    """Right and wrong answers of two models to the same images, alike within units; and the units."""
    units = np.repeat(np.arange(len(sizes)), sizes)

    def drawn(part: float) -> NDArray[np.float64]:
        own: NDArray[np.float64] = math.sqrt(part * (1 - correlation)) * random.normal(size=len(units))
        return own + math.sqrt(part * correlation) * random.normal(size=len(sizes))[units]

    hard = drawn(0.6)
    one, other = (hard + drawn(0.4) < stats.norm.ppf(share) for share in shares)
    return one, other, units


@pytest.mark.parametrize("shares", [(0.8, 0.8), (0.8, 0.9), (0.96, 0.98)])
@pytest.mark.parametrize("count", [8, 40])
@pytest.mark.parametrize("kind", UNITS)
def test_the_interval_of_a_difference_covers_it_though_images_hang_together(
    kind: str, count: int, shares: tuple[float, float]
) -> None:
    random, covered, rounds = np.random.default_rng(4), 0, 300
    for _ in range(rounds):
        one, other, units = equal_models(random, UNITS[kind](random, count), shares, 0.7)
        found = intervals.difference(one, other, 0.95, units)
        covered += found["accuracy_low"] <= shares[1] - shares[0] <= found["accuracy_high"]
    assert covered / rounds >= 0.93 - 2 * math.sqrt(0.05 * 0.95 / rounds)


@pytest.mark.parametrize(("kind", "count"), [("fives", 40), ("unequal", 40), ("one large", 15)])
def test_equal_models_are_told_apart_as_seldom_as_the_p_value_says(kind: str, count: int) -> None:
    random, told, rounds = np.random.default_rng(5), np.zeros(2), 600
    for _ in range(rounds):
        one, other, units = equal_models(random, UNITS[kind](random, count), (0.8, 0.8), 0.7)
        told += [intervals.mcnemar(one, other, by)["p_value"] < 0.05 for by in (None, units)]
    assert told[0] / rounds > 0.1  # taken as independent
    assert told[1] / rounds < 0.05 + 2 * math.sqrt(0.05 * 0.95 / rounds)


def test_the_test_of_units_counts_every_way_to_turn_their_signs() -> None:
    random = np.random.default_rng(1)
    for _ in range(30):
        units = np.sort(random.integers(0, 9, 40))
        one, other = random.random((2, 40)) < [[0.5], [0.75]]
        sums = np.array([(other[units == unit].sum() - one[units == unit].sum()) for unit in np.unique(units)], int)
        signs = 2 * (np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1) - 1
        expected = (np.abs(signs @ sums) >= abs(sums.sum())).mean()
        assert intervals.mcnemar(one, other, units)["p_value"] == pytest.approx(expected)


def test_units_of_one_image_each_change_nothing_and_copies_of_images_nothing_but_their_number() -> None:
    random = np.random.default_rng(2)
    one, other = random.random((2, 60)) < [[0.7], [0.8]]
    alone = np.arange(60)[::-1]
    assert intervals.accuracy(one, 0.95, alone) == intervals.accuracy(one, 0.95)
    assert intervals.difference(one, other, 0.95, alone) == intervals.difference(one, other, 0.95)
    assert intervals.mcnemar(one, other, alone) == intervals.mcnemar(one, other)
    copied = np.repeat(np.arange(60), 4)
    assert intervals.effective_images(np.repeat(one, 4), copied) == pytest.approx(59)  # 60 units give 59 differences
    assert intervals.accuracy(np.repeat(one, 4), 0.95, copied) == pytest.approx(
        intervals.wilson(59 * float(one.mean()), 59, 0.95)
    )
    same = intervals.mcnemar(np.repeat(one, 4), np.repeat(other, 4), copied)
    assert same["p_value"] == pytest.approx(intervals.mcnemar(one, other)["p_value"])
    assert same["only_a"] == 4 * intervals.mcnemar(one, other)["only_a"]


def test_where_every_answer_is_right_units_count_and_not_images() -> None:
    units = np.repeat(np.arange(10), 100)
    low, high = intervals.accuracy(np.ones(1000, bool), 0.95, units)
    assert low == pytest.approx(intervals.wilson(10, 10, 0.95)[0])
    assert high == 1.0
    assert intervals.effective_images(np.ones(5), np.zeros(5, int)) == 1.0
