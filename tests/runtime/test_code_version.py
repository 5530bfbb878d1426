import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from thaw.config import load, schema
from thaw.data import judgement
from thaw.features import extraction
from thaw.features.frozen import Frozen
from thaw.runtime import code_version
from thaw.runtime.framework import keras
from thaw.sweep import trial

PROSE = '''

# One more comment.


class Prose:
    """One more class with a docstring."""

    # and a comment

    def method(self) -> int:
        """One more docstring."""
        return 1  # and a comment
'''
BARE = "class Prose:\n    def method(self) -> int:\n        return 1\n"


def test_prose_and_layout_are_no_code() -> None:
    assert code_version.of_source(PROSE.encode()) == code_version.of_source(BARE.encode())


@pytest.mark.parametrize(
    ("one", "another"),
    [
        ("A = 1", "A = 2"),
        ("A = 1", "A = 1.0"),
        ("A = None", "A = ()"),
        ("A = 'x'", "A = b'x'"),
        ("def f(a, b=1): return a", "def f(a, b=None): return a"),
        ("def f(): return None", "def f(): return"),
        ("x = f(a)[0]", "x = f(a)[None]"),
        ("if a: b()", "while a: b()"),
        ("a", "'a'"),
        ("import a", "import a as b"),
        ("x: int = 1", "x: str = 1"),
    ],
)
def test_what_may_act_differently_has_another_hash(one: str, another: str) -> None:
    assert code_version.of_source(one.encode()) != code_version.of_source(another.encode())


def test_a_file_moved_added_or_broken_changes_the_hash_of_its_package(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "a.py").write_text("A = 1\n")
    seen = [code_version.of_files(tmp_path, [package])]
    (package / "b.py").write_text("")
    seen.append(code_version.of_files(tmp_path, [package]))
    (package / "b.py").rename(package / "c.py")
    seen.append(code_version.of_files(tmp_path, [package]))
    (package / "c.py").write_text("A = (\n")
    seen.append(code_version.of_files(tmp_path, [package]))
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "a.pyc").write_bytes(b"x")
    assert len({*seen, code_version.of_files(tmp_path, [package])}) == len(seen)
    with pytest.raises(FileNotFoundError, match="expected code at"):
        code_version.of_files(tmp_path, [tmp_path / "nowhere"])


def keys(project: Path) -> list[str]:
    """What the code goes into: the activation cache's key, the memo of validated images, a trial's name."""
    values = yaml.safe_load((project / "params.yaml").read_text())
    settings = load.check(values)
    layers = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(name="flat")])
    compute = replace(settings.compute, extractor="tensorflow")
    drawn = schema.Augment(**values["augment"])
    frozen = Frozen(layers, ["flat"], "0" * 64, settings.image, drawn, compute)
    family, names = extraction._names(frozen, 1)
    return [
        f"{family} {names}",
        judgement.version(stretch=False),
        trial.trial_name(["a=1"], values, trial.fingerprint(settings)),
    ]


def test_a_comment_changes_no_key_and_a_constant_of_the_decoder_changes_all(
    project: Path, tiny_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tiny_images.is_dir()
    monkeypatch.setattr(code_version, "LIBRARY", project / "thaw")
    before = keys(project)
    for path in (*(project / "thaw").rglob("*.py"), *(project / "stages").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        path.write_text(f'# A comment before all else.\n{text}\n\n"""A text that does nothing."""\n', encoding="utf-8")
    assert keys(project) == before
    decoder = project / "thaw" / "images" / "decoding.py"
    text, count = re.subn(r"^(MAX_PIXELS = )\d", r"\g<1>7", decoder.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert count == 1
    decoder.write_text(text, encoding="utf-8")
    assert all(now != then for now, then in zip(keys(project), before, strict=True))


def test_the_hash_reads_the_library_that_runs() -> None:
    assert Path(code_version.__file__).resolve().is_relative_to(code_version.LIBRARY)
    assert code_version.of("images") != code_version.of("data")
