from dataclasses import dataclass

import pytest

from thaw.config import ranges


@dataclass
class Oven:
    heat: float
    fan: str = "off"


@pytest.mark.parametrize("heat", [50, 250, 99.5])
def test_the_ends_of_a_range_are_in_it(heat: float) -> None:
    ranges.between(Oven(heat), "heat", 50, 250)


@pytest.mark.parametrize("heat", [49.9, 251, float("nan")])
def test_what_is_outside_is_refused_with_name_range_and_value(heat: float) -> None:
    with pytest.raises(ValueError, match=rf"^oven\.heat: expected 50 to 250 degrees, received {heat!r}$"):
        ranges.between(Oven(heat), "heat", 50, 250, "degrees")


def test_another_word_is_refused_with_those_there_are() -> None:
    ranges.one_of(Oven(0), "fan", ("off", "on"))
    with pytest.raises(ValueError, match=r"^oven\.fan: expected one of low, high, received 'off'$"):
        ranges.one_of(Oven(0), "fan", ("low", "high"))
