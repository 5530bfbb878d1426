"""What a stranger may hand over: models with code in them, tables that lead elsewhere. SECURITY.md names its tests.

The other threats are tested beside the code that meets them; SECURITY.md names each.
"""

import json
import re
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from stages import prepare
from thaw import paths
from thaw.config import load
from thaw.exports import formats
from thaw.runtime.framework import keras

ROOT = Path(__file__).resolve().parents[1]
TABLES = ("SECURITY.md", "docs/faults.md")


def stranger(path: Path, marker: Path) -> Path:
    """Write a model whose layer runs a line of code when it is called, with all that an export has besides."""
    line = f"__import__('pathlib').Path({str(marker)!r}).touch() or x"
    code = eval(f"lambda x: {line}")  # noqa: S307 -- the code of this test
    model = keras.Sequential([keras.Input((4,)), keras.layers.Lambda(code, output_shape=(4,))])
    marker.unlink(missing_ok=True)  # it may have run to be built
    model.save(path)
    image = {"size": 32, "fit": "stretch", "interpolation": "bilinear", "antialias": True}
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(paths.LABELS, json.dumps({"classes": ["a", "b"], "image": image}))
    return path


def test_a_keras_file_with_code_in_it_is_refused_and_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "it ran"
    path = stranger(tmp_path / paths.KERAS_FILE, marker)
    with pytest.raises(ValueError, match=paths.KERAS_FILE):
        formats.load(path)
    assert not marker.exists()
    keras.saving.load_model(path, safe_mode=False)(keras.ops.zeros((1, 4)))
    assert marker.exists(), "the code of this test does nothing, so it shows nothing"


def test_a_keras_file_imports_no_module_that_it_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "it ran"
    (tmp_path / "stranger_of_keras.py").write_text(f"open({str(marker)!r}, 'w').close()\nlayer = object\n")
    monkeypatch.syspath_prepend(tmp_path)
    path, changed = stranger(tmp_path / "a.keras", marker), tmp_path / paths.KERAS_FILE
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(changed, "w") as archive:
        for name in whole.namelist():
            data = whole.read(name)
            if name == "config.json":
                config = json.loads(data)
                layer = config["config"]["layers"][1]
                layer.update({"module": "stranger_of_keras", "class_name": "layer", "registered_name": None})
                data = json.dumps(config).encode()
            archive.writestr(name, data)
    with pytest.raises(ValueError, match=paths.KERAS_FILE):
        formats.load(changed)
    assert not marker.exists()


def test_a_table_that_leads_out_of_its_folder_writes_nothing_there_and_tells_nothing_of_what_is_no_image(
    project: Path, tiny_images: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.txt").write_text("a password\n" * 100)
    Image.new("RGB", (40, 40), (9, 9, 9)).save(outside / "photo.png")
    images = sorted(path.relative_to(project / "data").as_posix() for path in tiny_images.rglob("*.png"))
    rows = [f"{path},{path.split('/')[1]}" for path in images]
    for name in ("photo.png", "secret.txt"):
        rows += [f"{outside / name},class_0", f"../../{outside.name}/{name},class_0"]
    (project / "data" / "table.csv").write_text("path,label\n" + "\n".join(rows) + "\n")
    overrides = ["data=folder", "data.raw=data/table.csv", "tracking.enabled=false"]
    paths.PARAMS.write_text(load.compose(overrides), encoding="utf-8")
    around = {path for path in project.parent.iterdir() if path != project} | set(outside.iterdir())
    prepare.main()
    assert {path for path in project.parent.iterdir() if path != project} | set(outside.iterdir()) == around
    written = [path for root in (paths.PREPARED, paths.METRICS) for path in root.rglob("*") if path.is_file()]
    assert "secret.txt" in paths.QUARANTINE.read_text(encoding="utf-8")
    assert all(b"a password" not in path.read_bytes() for path in [*written, paths.MEMORY])


@pytest.mark.parametrize("document", TABLES)
def test_each_line_names_a_test_that_is_there(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert len(named) > 10
    for file, test in named:
        source = (ROOT / file).read_text(encoding="utf-8")
        assert not test or f"def {test}(" in source, f"{file}::{test}"
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| what", "| ---"))]
    assert rows and all("`tests/" in row for row in rows)
