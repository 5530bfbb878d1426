import subprocess
import sys
from pathlib import Path

import pytest

from thaw import imports

ROOT = Path(__file__).resolve().parents[2]
NAMES = ", ".join(imports.UNUSED)


def run(code: str) -> str:
    """What it prints, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout + done.stderr


@pytest.mark.parametrize("imported", ["thaw.framework", "mlflow"])
def test_what_is_not_used_is_not_waited_for_and_can_be_imported_after_it(imported: str) -> None:
    found = f"sorted(set({imports.UNUSED}) & set(sys.modules))"
    first = "from thaw import imports\nwith imports.without():"
    code = f"import sys\n{first}\n    import {imported}\nprint({found})\nimport {NAMES}\nprint({found})"
    assert run(code) == f"[]\n{sorted(imports.UNUSED)}\n"


def test_what_was_imported_before_stays() -> None:
    assert run("import scipy as kept, thaw.framework, scipy; print(kept is scipy)") == "True\n"


def test_what_fails_inside_leaves_nothing_hidden() -> None:
    code = "from thaw import imports\ntry:\n    with imports.without():\n        import pandas\n"
    assert run(f"{code}except ImportError:\n    import pandas\n    print('there')") == "there\n"


def test_nobody_looks_for_garbage_among_what_was_imported_but_later_does() -> None:
    inside = "import gc\nfrom thaw import imports\nwith imports.without():\n    print(gc.isenabled())\n"
    after = "print(gc.isenabled(), gc.get_freeze_count() > 0)"
    assert run(f"{inside}    import thaw.schema\n{after}") == "False\nTrue True\n"


def test_who_has_turned_the_collection_off_finds_it_off() -> None:
    code = (
        "import gc\ngc.disable()\nfrom thaw import imports\nwith imports.without():\n    pass\nprint(gc.isenabled())"
    )
    assert run(code) == "False\n"


def test_where_nothing_is_imported_garbage_is_looked_for_as_before() -> None:
    code = "import gc\nfrom thaw import imports\nwith imports.without():\n    pass\nprint(gc.get_freeze_count())"
    assert run(code) == "0\n"
