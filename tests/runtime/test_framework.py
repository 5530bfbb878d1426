import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from thaw.runtime.framework import keras, numbered_from_the_start

ROOT = Path(__file__).resolve().parents[2]
USED = (
    "from thaw.runtime.framework import keras, tf; print(keras.backend.backend(), tf.reduce_sum(tf.ones(3)).numpy())"
)


def run(code: str, *folders: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run it in a process of its own, which finds modules in ``folders`` first."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("TF_", "KERAS_"))}
    path = os.pathsep.join(map(str, (*folders, ROOT)))
    variables = inherited | {"PYTHONPATH": path} | environment
    return subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=False)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A person's Keras folder, which asks for another backend."""
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "torch", "floatx": "float32"}), encoding="utf-8")
    return tmp_path


def test_tensorflow_and_keras_are_imported_without_a_word_and_stderr_works_again_after_it() -> None:
    done = run(f"import os, sys; {USED}; os.write(2, b'one,'); print('two', file=sys.stderr)")
    assert (done.stdout, done.stderr, done.returncode) == ("tensorflow 3.0\n", "one,two\n", 0)


def test_the_backend_is_tensorflow_whatever_a_person_has_set(home: Path) -> None:
    done = run(USED, KERAS_HOME=str(home), KERAS_BACKEND="jax")
    assert (done.stdout, done.stderr) == ("tensorflow 3.0\n", "")


@pytest.mark.parametrize(
    ("name", "chosen"),
    [("TF_CPP_MIN_LOG_LEVEL", "3"), ("TF_ENABLE_ONEDNN_OPTS", "1"), ("TF_FORCE_GPU_ALLOW_GROWTH", "true")],
)
def test_what_tensorflow_logs_and_computes_with_is_chosen_unless_a_person_has_done_so(
    tmp_path: Path, name: str, chosen: str
) -> None:
    told = f"import os\nraise ImportError(os.environ['{name}'] + os.environ['KERAS_BACKEND'])\n"
    (tmp_path / "keras.py").write_text(told, encoding="utf-8")
    assert run("import thaw.runtime.framework", tmp_path).stderr.endswith(f"ImportError: {chosen}tensorflow\n")
    assert run("import thaw.runtime.framework", tmp_path, **{name: "0"}).stderr.endswith("ImportError: 0tensorflow\n")


def test_what_was_held_back_is_shown_if_the_import_fails(tmp_path: Path) -> None:
    broken = "import os\nos.write(2, b'driver: no such library\\n')\nraise ImportError('tensorflow is broken')\n"
    (tmp_path / "tensorflow.py").write_text(broken, encoding="utf-8")
    done = run("import thaw.runtime.framework", tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("driver: no such library") == 1
    assert done.stderr.splitlines()[-1].endswith("ImportError: tensorflow is broken")


CHURN = """
import resource, threading

def churn():
    for _ in range(50):
        taken = [bytearray(100_000) for _ in range(300)]
        del taken

thread = threading.Thread(target=churn)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
thread.start()
thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what is set is glibc's")
def test_memory_that_a_thread_has_freed_is_not_asked_of_the_system_again() -> None:
    kept, given_back = (int(run(f"{first}\n{CHURN}").stdout) for first in ("import thaw.runtime.framework", ""))
    assert kept < given_back / 5


def test_layers_without_a_name_are_numbered_from_the_start_inside_and_on_as_before_outside() -> None:
    keras.layers.ReLU()  # the first has no number
    before, outside = (int(keras.layers.ReLU().name.rsplit("_", 1)[-1]) for _ in range(2))
    with numbered_from_the_start():
        assert [keras.layers.ReLU().name for _ in range(2)] == ["re_lu", "re_lu_1"]
    assert (outside, keras.layers.ReLU().name) == (before + 1, f"re_lu_{outside + 1}")
