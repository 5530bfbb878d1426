"""What became of fine-tuning, in sentences: whether phase 2's model was kept, and whether it ended too early."""

from collections.abc import Mapping
from typing import Any


def kept_start(trained: Mapping[str, Any]) -> str:
    """Return why phase 2's model is phase 1's, in a sentence; empty where phase 2 made a model of its own.

    Like the verdict it says that phase 2 has not helped yet where it ended too early, and else that it did not help.

    Args:
        trained: the figures of phase 2's training: ``layers``, ``epochs``, ``best_epoch``, the change of the loss, and
            ``ended_too_early``.
    """
    if not trained["layers"]:
        return "Phase 2 unfroze nothing, so its model is phase 1's."
    if trained["best_epoch"]:
        return ""
    best = "its only epoch" if trained["epochs"] == 1 else f"the best of its {trained['epochs']} epochs"
    change, low, high = (trained[f"val_loss_{name}"] for name in ("change", "low", "high"))
    interval = "" if low is None else f" ({low:.3f} to {high:.3f})"  # one unit of images has none
    worse = f"higher than its start's by {change:.3f}{interval}, on the same images"
    outcome = "has not helped yet" if trained.get("ended_too_early") else "did not help"
    return f"Phase 2 {outcome}: the validation loss of {best} is {worse}, so its model is phase 1's."


def early(trained: Mapping[str, Any]) -> str:
    """Return that phase 2 ended too early, and what to set, in a sentence; empty where it did not."""
    return f"Phase 2 ended too early: {trained['advice']}." if trained.get("ended_too_early") else ""


def chosen_by_test(*, same: bool) -> str:
    """Return what was chosen by the test images, in sentences.

    The figures are simulated: two models that are as good, 6 % of the images answered right by only one of them.

    Args:
        same: whether both phases are one model.
    """
    if same:
        return "Nothing was chosen by the test images."
    return (
        "Training chose nothing by the test images, but the verdict chooses the phase to ship by them, so its "
        "accuracy looks a little better than it is: of two models of 90.0 % each, the one to ship has 90.8 % in the "
        "mean on 200 test images, and 90.3 % on 1,000."
    )
