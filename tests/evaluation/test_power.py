import numpy as np
import pytest

from thaw.evaluation import intervals, power


@pytest.mark.parametrize(("n", "discordant"), [(79, 0.1), (380, 0.08), (380, 0.0), (40, 0.3)])
def test_a_difference_as_small_as_that_is_found_four_times_in_five(n: int, discordant: float) -> None:
    smallest = power.smallest_difference(n, discordant, 0.95)
    assert smallest is not None
    share, chance, found = max(discordant, smallest), np.random.default_rng(0), 0
    for _ in range(500):
        gains = chance.choice([1, -1, 0], n, p=[(share + smallest) / 2, (share - smallest) / 2, 1 - share])
        found += intervals.mcnemar(gains < 0, gains > 0)["p_value"] < 0.05
    assert found / 500 == pytest.approx(power.POWER, abs=0.055)


def test_it_falls_with_the_images_and_rises_with_how_often_the_models_differ() -> None:
    by_images = [power.smallest_difference(n, 0.1, 0.95) or 9 for n in (20, 79, 400, 3000, 100_000)]
    assert by_images == sorted(by_images, reverse=True)
    by_share = [power.smallest_difference(400, share, 0.95) or 9 for share in (0.0, 0.05, 0.2, 0.5)]
    assert by_share == sorted(by_share) and len(set(by_share)) == 4
    assert (power.smallest_difference(400, 0.1, 0.99) or 0) > by_images[2]


def test_too_few_images_can_show_none() -> None:
    # Six images that all speak for one model are the fewest with a p-value below 0.05: 2 / 2 ** 6.
    assert [power.smallest_difference(n, 0.0, 0.95) is None for n in (0, 1, 5, 6)] == [True, True, True, False]


def test_what_is_no_share_is_refused() -> None:
    for confidence, share in ((1.0, 0.1), (0.95, 1.5)):
        with pytest.raises(ValueError, match="received"):
            power.smallest_difference(10, share, confidence)
