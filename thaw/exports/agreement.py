"""How a format that rounds (float16, int8) is judged: by its answers, and by what they do to the accuracy."""

from typing import Any

import numpy as np

from thaw.config import schema
from thaw.evaluation import intervals

CONFIDENCE = 0.95  # of the intervals and of the paired test, as is usual


def figures(
    expected: np.ndarray, received: np.ndarray, labels: np.ndarray | None, units: np.ndarray | None
) -> dict[str, Any]:
    """Return how many answers are the evaluated model's, and what the others do to the accuracy.

    Args:
        expected, received: (images, classes) float32 probabilities.
        labels: (images,) int64, the right classes; None: the agreement alone.
        units: (images,) equal numbers for images that are no independent ones; None: all are.

    Returns:
        ``agreement``, and with labels ``accuracy``, its ``accuracy_change``, each with an interval, and the paired
        test's ``p_value``.
    """
    answers, ours = expected.argmax(axis=1), received.argmax(axis=1)
    same = answers == ours
    low, high = intervals.accuracy(same, CONFIDENCE, units)
    found: dict[str, Any] = {"agreement": float(same.mean()), "agreement_low": low, "agreement_high": high}
    if labels is None:
        return found
    before, after = answers == labels, ours == labels
    low, high = intervals.accuracy(after, CONFIDENCE, units)
    change = intervals.difference(before, after, CONFIDENCE, units)
    return found | {
        "accuracy": float(after.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        "accuracy_change": change["accuracy"],
        "accuracy_change_low": change["accuracy_low"],
        "accuracy_change_high": change["accuracy_high"],
        "p_value": intervals.mcnemar(before, after, units)["p_value"],
    }


def check(way: str, found: dict[str, Any], options: schema.Export, worst: str) -> None:
    """Raise an error if a format's answers are too often others, or right too seldom.

    Few test images can't tell a small loss from chance. So a loss counts where it is both larger than
    ``export.int8_points`` and found by the paired test, and an agreement where even the upper end of its interval is
    below ``export.agreement``.

    Args:
        way: how it was asked.
        found: by ``figures``.
        worst: the image whose probabilities differ most.
    """
    if found["agreement_high"] < options.agreement:
        raise ValueError(
            f"the exported model ({way}) gives {found['agreement']:.1%} of the test images the evaluated model's "
            f"answer (95 % interval {found['agreement_low']:.1%} to {found['agreement_high']:.1%}), export.agreement "
            f"is {options.agreement:.0%}; it differs most, by {found['largest_difference']:.1e}, in {worst}"
        )
    loss = -found.get("accuracy_change", 0.0) * 100
    if loss > options.int8_points and found["p_value"] < 1 - CONFIDENCE:
        raise ValueError(
            f"the exported model ({way}) loses {loss:.1f} points of accuracy (95 % interval "
            f"{-100 * found['accuracy_change_high']:.1f} to {-100 * found['accuracy_change_low']:.1f}, paired test "
            f"p = {found['p_value']:.2g}), export.int8_points is {options.int8_points:g}; it differs most, by "
            f"{found['largest_difference']:.1e}, in {worst}"
        )
