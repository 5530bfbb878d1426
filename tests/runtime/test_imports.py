import os
import subprocess
import sys
from pathlib import Path

import pytest

from thaw.runtime import imports

ROOT = Path(__file__).resolve().parents[2]
NAMES = ", ".join(imports.UNUSED)


def run(code: str) -> str:
    """What it prints, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout + done.stderr


@pytest.mark.parametrize("imported", ["thaw.runtime.framework", "mlflow"])
def test_what_is_not_used_is_not_waited_for_and_can_be_imported_after_it(imported: str) -> None:
    found = f"sorted(set({imports.UNUSED}) & set(sys.modules))"
    first = "from thaw.runtime import imports\nwith imports.without():"
    code = f"import sys\n{first}\n    import {imported}\nprint({found})\nimport {NAMES}\nprint({found})"
    assert run(code) == f"[]\n{sorted(imports.UNUSED)}\n"


def test_what_was_imported_before_stays() -> None:
    assert run("import scipy as kept, thaw.runtime.framework, scipy; print(kept is scipy)") == "True\n"


def test_what_fails_inside_leaves_nothing_hidden() -> None:
    code = "from thaw.runtime import imports\ntry:\n    with imports.without():\n        import pandas\n"
    assert run(f"{code}except ImportError:\n    import pandas\n    print('there')") == "there\n"


def test_nobody_looks_for_garbage_among_what_was_imported_but_later_does() -> None:
    inside = "import gc\nfrom thaw.runtime import imports\nwith imports.without():\n    print(gc.isenabled())\n"
    after = "print(gc.isenabled(), gc.get_freeze_count() > 0)"
    assert run(f"{inside}    import thaw.config.schema\n{after}") == "False\nTrue True\n"


def test_who_has_turned_the_collection_off_finds_it_off() -> None:
    inside = "from thaw.runtime import imports\nwith imports.without():\n    pass"
    code = f"import gc\ngc.disable()\n{inside}\nprint(gc.isenabled())"
    assert run(code) == "False\n"


def test_where_nothing_is_imported_garbage_is_looked_for_as_before() -> None:
    code = (
        "import gc\nfrom thaw.runtime import imports\nwith imports.without():\n    pass\nprint(gc.get_freeze_count())"
    )
    assert run(code) == "0\n"


ENGINE = """
import numpy as np
from thaw.features import engines
from thaw.runtime.framework import keras

pixels = keras.Input((8, 8, 3))
run, used = engines.engine(keras.Model(pixels, keras.layers.Conv2D(2, 3)(pixels)), "onnxruntime")
print(used, run(np.zeros((1, 8, 8, 3), np.float32))[0].shape)
"""


def test_onnx_runtime_leaves_nothing_in_the_home_of_who_has_it_run(tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    places = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", ENGINE],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=environment | places,
    )
    assert done.stdout == "onnxruntime (1, 6, 6, 2)\n"
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    # Keras writes its settings where there are none, Matplotlib its list of fonts.
    assert {name for name in left if not name.startswith((".keras/", "matplotlib/", ".cache/matplotlib/"))} == set()
