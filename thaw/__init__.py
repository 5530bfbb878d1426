"""Thaw: fine-tune pretrained image models in two phases.

>>> import thaw
>>> run = thaw.fit("my_images")                 # doctest: +SKIP
>>> run.predict("new.jpg")                      # doctest: +SKIP
>>> model = thaw.load("my_images-thaw")         # doctest: +SKIP
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thaw.api import Predictor as Predictor
    from thaw.api import Run as Run
    from thaw.api import fit as fit
    from thaw.api import load as load

NAMES = ("Predictor", "Run", "fit", "load")


def __getattr__(name: str) -> object:
    """Return a name of ``thaw.api``, which is imported only then: stages and commands must not wait for it."""
    if name in NAMES:
        import importlib  # noqa: PLC0415 -- what no stage needs

        return getattr(importlib.import_module("thaw.api"), name)
    raise AttributeError(f"module 'thaw' has no attribute {name!r}")
