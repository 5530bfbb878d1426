"""Prove that frozen weights are the pretrained ones, bit by bit: before phase 2, and after each training."""

from pathlib import Path

from thaw.classifier import batch_norm, model
from thaw.runtime.framework import keras


def witness(classifier: model.Classifier, trained: keras.Model, policy: str = "inference") -> dict[str, str]:
    """Return the pretrained hash of every weight that training ``trained`` must not touch, by path.

    These are all of the backbone that ``trained`` has no gradient for, and what the BatchNorm policy promises to keep,
    even if something has set it trainable. Under ``train`` the statistics in ``trained`` are free to move.

    Raises:
        RuntimeError: frozen and trained weights are not all weights, each once.
    """
    ours = {id(variable): variable.path for variable in classifier.backbone.weights}
    head = {id(variable) for variable in classifier.head.variables}
    free = {id(variable) for variable in trained.trainable_variables} - head
    if policy == "train":
        free |= {id(variable) for variable in batch_norm.statistics(trained)}
    free -= {id(variable) for variable in batch_norm.held(classifier.backbone, policy)}
    kept = [path for key, path in ours.items() if key not in free]
    known = classifier.pretrained
    if free - ours.keys() or len(kept) + len(free) != len(known) or set(kept) - known.keys():
        raise RuntimeError(
            f"expected frozen and trained weights to be the {len(known)} pretrained ones, received {len(kept)} frozen "
            f"and {len(free)} trained; please report this"
        )
    return {path: known[path] for path in kept}


def check(classifier: model.Classifier, before: dict[str, str]) -> None:
    """Prove that what was frozen is bit-identical to what ``witness`` was told.

    Raises:
        RuntimeError: a frozen weight has changed. This is a fault of the program, not of its user.
    """
    if changed := _changed(classifier, before):
        raise RuntimeError(
            f"{len(changed)} frozen weights changed in training, {changed[0]} first; please report this"
        )


def _changed(classifier: model.Classifier, before: dict[str, str]) -> list[str]:
    now = {
        variable.path: model.sha256(variable) for variable in classifier.backbone.weights if variable.path in before
    }
    return [path for path, sha256 in before.items() if now.get(path) != sha256]


def load_untrained(folder: Path) -> model.Classifier:
    """Load a classifier as ``model.load`` does, and check that its backbone is as it was pretrained.

    Raises:
        ValueError: a weight of the backbone is another.
    """
    classifier = model.load(folder)
    if changed := _changed(classifier, classifier.pretrained):
        raise ValueError(
            f"{folder}: expected the backbone's pretrained weights, received {len(changed)} others, {changed[0]} "
            "first; run `dvc repro --force phase1_head`"
        )
    return classifier
