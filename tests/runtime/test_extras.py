"""Nobody is led to the other program that PyPI has under the package's name: an extra is named by its packages."""

import re
import sys
import tomllib
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from thaw.data import object_store
from thaw.features import shared_folder
from thaw.networks import external
from thaw.runtime import cluster, extras

ROOT = Path(__file__).resolve().parents[2]
EXTRAS: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]
LOADED: dict[str, Any] = import_module("fsspec.registry")._registry


def _ray(_: Path) -> None:
    with cluster._connected("auto"):
        pass


def _preset(folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    external.build("keras_hub", str(folder), 32, "", "0..1", pretrained=False)


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_an_extra_is_installed_by_the_names_and_bounds_of_its_packages(extra: str) -> None:
    command = extras.install(extra)
    assert command.startswith("pip install '") and command.count("'") == 2 * len(EXTRAS[extra])
    for stated in EXTRAS[extra]:
        name, *bounds = re.split(r"(?=[<>=])|,", stated, maxsplit=1)
        (written,) = (each for each in command.split("'") if re.split(r"[<>=]", each)[0] == name)
        assert all(bound in written for bound in ",".join(bounds).split(","))


@pytest.mark.parametrize(
    ("package", "extra", "ask"),
    [
        ("ray", "ray", _ray),
        ("keras_hub", "hub", _preset),
        ("kagglehub", "hub", lambda _: external.folder(f"kaggle://a/b/c/d/1@sha256:{'0' * 64}")),
        ("s3fs", "s3", lambda _: shared_folder.at("s3://bucket/shared")),
        ("s3fs", "s3", lambda _: object_store.fetch("s3://bucket/images")),
    ],
)
def test_where_an_extra_is_missing_its_packages_are_named(
    package: str, extra: str, ask: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(LOADED, "s3", raising=False)  # fsspec keeps what it has loaded
    with pytest.raises(ValueError, match="expected") as error:
        ask(tmp_path)
    assert f"run `{extras.install(extra)}`" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(("protocol", "client"), [("gs", "gcsfs"), ("abfs", "adlfs")])
def test_other_stores_name_the_client_that_fsspec_needs(protocol: str, client: str) -> None:
    assert extras.install_client(protocol) == f"pip install {client}"


def test_of_a_store_that_nobody_knows_no_package_is_named(tmp_path: Path) -> None:
    assert extras.install_client("nowhere") == ""
    with pytest.raises(ValueError, match=r"received nowhere://bucket.*; give a folder or s3"):
        shared_folder.at("nowhere://bucket")
