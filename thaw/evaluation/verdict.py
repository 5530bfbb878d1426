"""The verdict: did fine-tuning help, by how much, how sure is that, and which phase's model to ship.

The two phases are compared on the same test images, by the exact paired test and the interval of
``thaw.evaluation.intervals``, which count independent images. One is called better than the other where both say so,
whichever it is. A difference that the test cannot tell is called that, with the smallest one that a test of so many
images could have shown. Where a baseline is better than the model to ship, by the same measure, neither phase is
recommended, and the text says what to do.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from thaw.evaluation import intervals, power

SCRATCH = "scratch"  # the same network, trained from random weights
YES, NO, UNKNOWN = "yes", "no", "unknown"
FROZEN = {"logistic_regression": "logistic regression", "knn": "k nearest neighbours"}  # of the frozen embeddings

_HEAD = (
    "the head has not learnt what its features give; give it more epochs or another learning rate (phase1.epochs, "
    "phase1.learning_rate)"
)
# What to do where a baseline is better than the model to ship.
REMEDIES = dict.fromkeys(FROZEN, _HEAD) | {
    SCRATCH: "the pretrained weights do not help; unfreeze more (phase2.unfreeze), or take another network"
}


@dataclass
class Verdict:
    """The outcome of the comparison of both phases."""

    text: str  # for people, whole sentences
    helped: str  # YES, NO or UNKNOWN
    ship: str  # phase1 or phase2
    # of phase 2 from phase 1 in percentage points: points, low, high; confidence; units; p_value of the paired test
    difference: dict[str, float]
    smallest_difference: float | None  # in percentage points; None: so few images can show none
    baselines: dict[str, dict[str, Any]]  # by name: accuracy, low, high (0 to 1), and what a baseline says of itself
    left_out: dict[str, str] = field(default_factory=dict)  # why a baseline was not fitted, by name


def judge(
    right: Mapping[str, intervals.Bools],
    about: Mapping[str, Mapping[str, Any]],
    confidence: float,
    worth: float,
    units: intervals.Units | None = None,
    *,
    same: bool = False,
    early: str = "",
    leaked: int = 0,
) -> Verdict:
    """Compare the phases, and both with the baselines.

    Args:
        right: (images,) bool by name, whether each answer is right: ``phase1``, ``phase2`` and any baselines.
        about: what is said of a baseline besides its accuracy, by name.
        confidence: of the intervals, and 1 less the p-value below which a difference is one.
        worth: the smallest gain of accuracy, 0 to 1, that is worth shipping phase 2.
        units: (images,) integer, which images are not independent; None: each image is one.
        same: whether phase 2 found nothing better than its start, so that both models are one.
        early: what to set, where phase 2 ended too early; then that it did not help is not known.
        leaked: test images that are left out, since others like them were learnt from.
    """
    before, after = right["phase1"], right["phase2"]
    tested = intervals.mcnemar(before, after, units)
    gain = {**intervals.difference(before, after, confidence, units), **tested}
    apart = intervals.told_apart(gain, confidence)
    count = len(before) if units is None else len(np.unique(units))
    effective = min(int(intervals.effective_images(after.astype(int) - before, units)), count)
    discordant = (tested["only_a"] + tested["only_b"]) / len(before)
    smallest = power.smallest_difference(effective, discordant, confidence)
    if same or apart < 0:
        helped = NO
    elif apart > 0:
        helped = YES
    else:
        helped = NO if gain["accuracy_high"] < worth else UNKNOWN
    ship = "phase2" if helped == YES or (helped == UNKNOWN and gain["accuracy"] >= 0) else "phase1"
    if early and helped == NO and apart >= 0:
        helped = UNKNOWN
    baselines = {}
    for name, correct in right.items():
        low, high = intervals.accuracy(correct, confidence, units)
        baselines[name] = {"accuracy": float(correct.mean()), "low": low, "high": high, **about.get(name, {})}
    points = {name: 100 * gain[f"accuracy{suffix}"] for name, suffix in _PARTS}
    found = Verdict(
        text="",
        helped=helped,
        ship=ship,
        difference={**points, "confidence": confidence, "units": count, "p_value": tested["p_value"]},
        smallest_difference=None if smallest is None else 100 * smallest,
        baselines=baselines,
    )
    said = [
        _sentence(found, worth, same=same, harmed=apart < 0, early=early),
        *_stronger(right, found, units),
        *_from_scratch(right, found, units),
        *_left_out(leaked),
        _advice(found, _better(right, found, units)),
    ]
    found.text = " ".join(said)
    return found


_PARTS = (("points", ""), ("low", "_low"), ("high", "_high"))


def _sentence(found: Verdict, worth: float, *, same: bool, harmed: bool, early: str) -> str:
    first, second = (100 * found.baselines[phase]["accuracy"] for phase in ("phase1", "phase2"))
    told = f"{second:.1f} % against {first:.1f} % with frozen features, {_gain(found.difference)}"
    if found.helped == YES:
        return f"Fine-tuning helped: {told}."
    if early:
        what = f"with {second:.1f} % right both models are one" if same else told
        outcome = "did harm" if harmed else "has not helped yet"
        return f"Fine-tuning {outcome}: {what}; but phase 2 ended too early, {early}."
    if same:
        return (
            "Fine-tuning did not help: phase 2 found nothing better than its start, so both models are one, with "
            f"{second:.1f} % right."
        )
    if harmed:
        return f"Fine-tuning did harm: {told}."
    if found.helped == NO:
        return f"Fine-tuning did not help: {told}, which is less than {_points(100 * worth)} (evaluate.worth)."
    return f"This test does not tell whether fine-tuning helped: {told}; {_limit(found)}."


def _stronger(right: Mapping[str, intervals.Bools], found: Verdict, units: intervals.Units | None) -> list[str]:
    """Return that another classifier of the frozen features does better than phase 1, and what phase 2 gains on it."""
    frozen = [name for name in FROZEN if name in right]
    if not frozen:
        return []
    best = max(frozen, key=lambda name: found.baselines[name]["accuracy"])
    accuracy = found.baselines[best]["accuracy"]
    if accuracy <= found.baselines["phase1"]["accuracy"]:
        return []
    gain = intervals.difference(right[best], right["phase2"], found.difference["confidence"], units)
    points = _gain({name: 100 * gain[f"accuracy{suffix}"] for name, suffix in _PARTS})
    return [
        f"Of the same frozen features, {FROZEN[best]} makes {100 * accuracy:.1f} %; phase 2 against that is {points}."
    ]


def _from_scratch(right: Mapping[str, intervals.Bools], found: Verdict, units: intervals.Units | None) -> list[str]:
    """Return what the model to ship gains on the same network trained from scratch, where there is one."""
    if SCRATCH not in right:
        return []
    gain = intervals.difference(right[SCRATCH], right[found.ship], found.difference["confidence"], units)
    points = _gain({name: 100 * gain[f"accuracy{suffix}"] for name, suffix in _PARTS})
    about = found.baselines[SCRATCH]
    best = f", best after {about['best_epoch']} of {about['epochs']} epochs" if "best_epoch" in about else ""
    share = 100 * about["accuracy"]
    return [
        f"From scratch the same network makes {share:.1f} %{best}; phase {found.ship[-1]} against that is {points}."
    ]


def _left_out(leaked: int) -> list[str]:
    if not leaked:
        return []
    return [f"That is without {leaked:,} test image{'s that leak' if leaked > 1 else ' that leaks'}."]


def _better(right: Mapping[str, intervals.Bools], found: Verdict, units: intervals.Units | None) -> str:
    """Return the best baseline, where it is told apart from the model to ship as the better one; else nothing."""
    names = [name for name in (*FROZEN, SCRATCH) if name in right]
    if not names:
        return ""
    best = max(names, key=lambda name: found.baselines[name]["accuracy"])
    ours, confidence = right[found.ship], found.difference["confidence"]
    gain = intervals.difference(ours, right[best], confidence, units) | intervals.mcnemar(ours, right[best], units)
    return best if intervals.told_apart(gain, confidence) > 0 else ""


def _advice(found: Verdict, better: str) -> str:
    if better:
        own, name = f"phase {found.ship[-1]}", FROZEN.get(better, "training from scratch")
        return f"Ship neither yet: {name} is better than {own}, so {REMEDIES[better]}. Of the two, {own} is the one."
    if found.helped == UNKNOWN:
        return "Ship phase 2, which is not behind." if found.ship == "phase2" else "Ship phase 1, which is not behind."
    return f"Ship phase {found.ship[-1]}."


def _limit(found: Verdict) -> str:
    count = found.difference["units"]
    images = f"{count:,.0f} independent test image{'' if count == 1 else 's'}"
    if found.smallest_difference is None:
        return f"{images} can't tell any difference"
    return f"{images} can't tell differences below {_points(found.smallest_difference)}"


def _gain(points: Mapping[str, float]) -> str:
    return f"{_signed(points['points'])} points ({_signed(points['low'])} to {_signed(points['high'])})"


def _signed(points: float) -> str:
    return f"{round(points, 1) + 0.0:+.1f}".replace("-", "−")


def _points(points: float) -> str:
    digits = f"{points:.1f}".removesuffix(".0")
    return f"{digits} point" if digits == "1" else f"{digits} points"
