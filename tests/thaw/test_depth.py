import numpy as np
import pytest

from thaw import backbone, boundaries, depth
from thaw.probing import Probe

LABELS = np.repeat([0, 1, 2], [300, 250, 40])


def probes(*losses: float) -> list[Probe]:
    return [Probe(f"block_{number}" if number else "", number / 10, 0.9, loss) for number, loss in enumerate(losses)]


def test_the_lead_is_what_the_output_lacks() -> None:
    assert depth.lead(probes(0.2, 0.3, 0.4)) == 0
    assert depth.lead(probes(0.4, 0.3, 0.1, 0.2)) == pytest.approx(0.75)


def test_what_knows_nothing_wrong_has_no_lead() -> None:
    assert depth.lead(probes(0, 0, 0)) in (0, 1)


def test_the_further_the_task_the_more_is_thawed() -> None:
    shares = [float(depth.choose(probes(1, loss), LABELS).share[:-1]) for loss in (2, 1, 0.95, 0.9, 0.5, 0.1)]
    assert shares == sorted(shares) and shares[0] < shares[-1]


def test_what_the_rule_says_is_a_depth() -> None:
    network = backbone.build("efficientnet_lite0", "random", 32)
    for _, share in depth.RULE:
        assert 0 < boundaries.find(network, share).share < 1
