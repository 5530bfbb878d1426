"""How long phase 2 will take, said before it begins: by what it took here before, or else by what phase 1 took."""

from thaw import forecast, timings
from thaw.classifier import model
from thaw.config import schema

BACKWARD = 3  # times the computation of a forward pass that a step of training takes
# Seconds an image through the whole network where nothing was measured: EfficientNet-Lite0 on two cores of a server.
A_PASS = 0.01


def phase2(card: model.Card, settings: schema.Phase2, share: float, images: int) -> str:
    """Return one line for people.

    Args:
        card: of the classifier.
        share: of the computation that is thawed.
        images: to train on.
    """
    about = {"backbone": card.backbone.name, "size": card.image.size}
    known = timings.seconds_each("phase2", **about, depth=timings.resolved(settings.unfreeze))
    passed = timings.seconds_each("extraction", **about)
    each = known or BACKWARD * share * (passed or A_PASS)
    if known:
        source = "by what phase 2 took here before"
    else:
        source = "by what the frozen layers took here" if passed else "as nothing was measured here yet, a guess"
    return f"{forecast.of_phase2(each, settings, images)}, {source}"
