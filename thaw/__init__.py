"""Thaw: fine-tune pretrained image models in two phases.

>>> import thaw
>>> run = thaw.fit("flowers", image="px64", phase1={"epochs": 2}, phase2={"epochs": 2})
>>> run.predict("new.png").tolist()
['red']
>>> model = thaw.load("flowers-thaw")
>>> model.labels
['green', 'red']
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thaw.api.estimator import ThawClassifier as ThawClassifier
    from thaw.api.runs import Run as Run
    from thaw.api.runs import fit as fit
    from thaw.api.runs import load as load
    from thaw.serving.predictor import Predictor as Predictor

    __version__: str

# Where each name is.
NAMES = dict.fromkeys(("Run", "fit", "load"), "thaw.api.runs") | {
    "Predictor": "thaw.serving.predictor",
    "ThawClassifier": "thaw.api.estimator",
}


def __getattr__(name: str) -> object:
    """Return a name of the Python API, which is imported only then: stages and commands must not wait for it."""
    if name in NAMES:
        import importlib  # noqa: PLC0415 -- what no stage needs

        return getattr(importlib.import_module(NAMES[name]), name)
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 -- as above

        return version("thaw")
    raise AttributeError(f"module 'thaw' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the names of the module, those that are not imported yet too: what an editor or a shell completes."""
    return sorted({*globals(), *NAMES, "__version__"})
