"""How long phase 2 will take, said before it begins: by what it took here before, or else by what phase 1 took."""

from thaw import forecast, timings
from thaw.classifier import model
from thaw.config import schema


def phase2(card: model.Card, settings: schema.Phase2, share: float, images: int) -> str:
    """Return one line for people.

    Args:
        card: of the classifier.
        share: of the computation that is thawed.
        images: to train on.
    """
    about = {"backbone": card.backbone.name, "size": card.image.size}
    known = timings.seconds_each("phase2", **about, depth=timings.resolved(settings.unfreeze))
    each_pass, source = forecast.a_pass(card.backbone.name, card.image.size)
    if known:
        source = "by what phase 2 took here before"
    each = known or forecast.each_epoch(each_pass, share)
    return f"{forecast.of_phase2(each, settings, images)}, {source}"
