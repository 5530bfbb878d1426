"""Import packages without what they would take along only because it happens to be installed."""

import gc
import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager

# Keras and MLflow offer galleries of images, wrappers and tables, if they find these. Nothing here uses them, and to
# import them takes a third as long again: seconds for each stage of each trial.
UNUSED = ("matplotlib", "pandas", "scipy", "sklearn")

# ONNX Runtime reads it when it is loaded. Without it, it keeps an identity of the machine and a table of events in the
# user's home, and sends them.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"


@contextmanager
def without(packages: Collection[str] = UNUSED) -> Iterator[None]:
    """Let imports inside believe that the packages are not installed; those imported before stay.

    Inside, Python looks for no garbage, and later not among what is there by then: of TensorFlow's and MLflow's
    million objects none ever becomes any, but to go through them again and again takes a fifth of their imports.
    """
    collecting, before = gc.isenabled(), len(sys.modules)
    gc.disable()
    absent = [name for name in packages if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # the documented way to make its import fail
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
        if len(sys.modules) > before:
            gc.freeze()
        if collecting:
            gc.enable()
