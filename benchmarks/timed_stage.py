"""Run one stage with a clock on its parts: ``python -m benchmarks.timed_stage STAGE OUT.json``.

The product has no clocks of its own; this wraps the two functions in which a training stage spends its time, and gives
the training a callback that notes when each epoch ended.
"""

import functools
import importlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def clocked(module: Any, name: str, times: dict[str, Any], part: str) -> None:
    """Replace a function of ``module`` with one that adds its time to ``times[part]``."""
    function: Callable[..., Any] = getattr(module, name)

    def timed(*arguments: Any, **named: Any) -> Any:
        start = time.monotonic()
        try:
            return function(*arguments, **named)
        finally:
            times[part] = times.get(part, 0.0) + time.monotonic() - start

    setattr(module, name, timed)


def main() -> None:
    start = time.monotonic()
    stage, out = sys.argv[1:3]
    times: dict[str, Any] = {}
    if stage.startswith("phase"):
        from benchmarks import epoch_clock  # noqa: PLC0415
        from thaw.features import extraction  # noqa: PLC0415
        from thaw.training import checkpoint, fit, resume  # noqa: PLC0415 -- the other stages do without TensorFlow

        clocked(extraction, "cached", times, "extraction")
        clock = epoch_clock.EpochClock()
        times["epochs"] = clock.epochs
        fit.fit = functools.partial(fit.fit, callbacks=[clock])
        clocked(fit, "fit", times, "training")
        clocked(checkpoint, "place", times, "checkpoints")
        clocked(resume.Checkpoints, "_write", times, "checkpoints")
    importlib.import_module(f"stages.{stage}").main()
    times["inside"] = time.monotonic() - start
    Path(out).write_text(json.dumps(times), encoding="utf-8")


if __name__ == "__main__":
    main()
