from pathlib import Path

import h5py
import numpy as np
import pytest

from thaw.networks import hdf5


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file that is nobody's business, also as raw bytes."""
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["kernel"] = np.arange(4.0)
    return tmp_path / "secret.h5"


def test_what_holds_all_that_it_names_passes_also_with_a_circle(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["layer/kernel"] = np.arange(4.0)
        file["layer/again"] = file["layer/kernel"]
        file["layer/above"] = file["/"]
    hdf5.check_contained(tmp_path / "a.h5")


@pytest.mark.parametrize("kind", ["external link", "soft link", "virtual dataset", "external storage"])
def test_what_names_data_elsewhere_is_refused(kind: str, secret: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("deep/layer")
        if kind == "external link":
            group["kernel"] = h5py.ExternalLink(secret.name, "/kernel")
        elif kind == "soft link":
            group["kernel"] = h5py.SoftLink("/elsewhere")
        elif kind == "virtual dataset":
            layout = h5py.VirtualLayout((4,), "f8")
            layout[:] = h5py.VirtualSource(secret.name, "kernel", (4,))
            group.create_virtual_dataset("kernel", layout)
        else:
            group.create_dataset("kernel", (4,), "f8", external=[(str(secret), 0, 32)])
    with pytest.raises(ValueError, match=r"expected data of its own, received .*/deep/layer/kernel"):
        hdf5.check_contained(path)
