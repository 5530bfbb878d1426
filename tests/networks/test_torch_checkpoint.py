import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from thaw.catalog import backbones
from thaw.networks import efficientnet_lite, torch_checkpoint
from thaw.networks.torch_checkpoint import MAGIC_NUMBER, PROTOCOL_VERSION

START = pickle.dumps(MAGIC_NUMBER, 2) + pickle.dumps(PROTOCOL_VERSION, 2) + pickle.dumps({"little_endian": True}, 2)
FLOATS = np.arange(6, dtype="<f4")
LONGS = np.array([7, -8], "<i8")


# Pickles are written here by their opcodes, as PyTorch would write them, because PyTorch is not installed.
def _numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(b"I%d\n" % value for value in values) + b"t"


def _tensor(
    offset: int,
    shape: tuple[int, ...],
    stride: tuple[int, ...],
    storage: bytes = b"ctorch\nFloatStorage\nVf\nVcpu\nI6\nN",
) -> bytes:
    arguments = b"(Vstorage\n" + storage + b"tQ" + b"I%d\n" % offset + _numbers(shape) + _numbers(stride) + b"I00\nN"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def _table(**values: bytes) -> bytes:
    items = b"".join(b"V" + name.encode() + b"\n" + value for name, value in values.items())
    return b"ccollections\nOrderedDict\n(tR(" + items + b"u."


def _storages(**arrays: np.ndarray) -> bytes:
    parts = [pickle.dumps(list(arrays), 2)]
    parts += [len(array).to_bytes(8, "little") + array.tobytes() for array in arrays.values()]
    return b"".join(parts)


def _read(path: Path, data: bytes) -> dict[str, np.ndarray]:
    """Read ``data`` with its right hash, so that only the reader itself can refuse it."""
    path.write_bytes(data)
    return torch_checkpoint.read(path, hashlib.sha256(data).hexdigest())


GOOD = (
    START
    + _table(
        matrix=_tensor(0, (2, 3), (3, 1)),
        turned=_tensor(0, (3, 2), (1, 3)),
        corner=_tensor(4, (1, 2), (3, 1)),
        scalar=_tensor(5, (), ()),
        empty=_tensor(6, (0, 3), (3, 1)),
        counts=_tensor(0, (2,), (1,), b"ctorch\nLongStorage\nVl\nVcpu\nI2\nN"),
    )
    + _storages(f=FLOATS, l=LONGS)
)


class Hostile:
    """Pickled, it is a program that makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.marker}'",)


def test_tensors_are_read_by_their_offset_shape_and_strides(tmp_path: Path) -> None:
    tensors = _read(tmp_path / "good.pth", GOOD)
    matrix = FLOATS.reshape(2, 3)
    assert list(tensors) == ["matrix", "turned", "corner", "scalar", "empty", "counts"]
    np.testing.assert_array_equal(tensors["matrix"], matrix)
    np.testing.assert_array_equal(tensors["turned"], matrix.T)
    np.testing.assert_array_equal(tensors["corner"], [[4, 5]])
    assert tensors["scalar"].shape == () and tensors["scalar"] == 5
    assert tensors["empty"].shape == (0, 3)
    assert tensors["counts"].dtype == np.int64 and tensors["counts"].tolist() == [7, -8]
    tensors["matrix"][:] = 0
    assert tensors["turned"].any(), "tensors of one storage must not share memory"


def test_the_package_file_reads() -> None:
    row = backbones.LITES["efficientnet_lite0"]
    tensors = torch_checkpoint.read(efficientnet_lite.package_file(row), row.sha256)
    assert len(tensors) == 296
    assert tensors["_conv_stem.weight"].shape == (32, 3, 3, 3)
    assert tensors["_fc.weight"].shape == (1000, 1280)
    assert tensors["_bn1.num_batches_tracked"].dtype == np.int64
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())


@pytest.mark.parametrize("place", ["magic number", "system", "object", "value", "keys"])
def test_a_program_in_the_pickle_is_refused_and_does_not_run(tmp_path: Path, place: str) -> None:
    marker = tmp_path / "it ran"
    attack = pickle.dumps(Hostile(marker), 2)
    pickle.loads(attack)
    assert marker.exists(), "the attack must work on a plain unpickler, or this test shows nothing"
    marker.unlink()

    two_pickles = pickle.dumps(MAGIC_NUMBER, 2) + pickle.dumps(PROTOCOL_VERSION, 2)
    data = {
        "magic number": attack,
        "system": two_pickles + attack,
        "object": START + attack,
        "value": START + _table(weight=attack[2:-1]),  # without the protocol's opcode and the stop
        "keys": START + _table() + attack,
    }[place]
    with pytest.raises(pickle.UnpicklingError, match=r"\.system: expected only tensors"):
        _read(tmp_path / "hostile.pth", data)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("builtins", "eval"),
        ("__builtin__", "eval"),
        ("builtins", "getattr"),
        ("collections", "Counter"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_parameter"),
        ("numpy", "load"),
    ],
)
def test_every_other_global_is_refused_by_its_name(tmp_path: Path, module: str, name: str) -> None:
    value = f"c{module}\n{name}\n(V1\ntR".encode()
    with pytest.raises(pickle.UnpicklingError, match=rf"{module}\.{name}: expected only tensors"):
        _read(tmp_path / "hostile.pth", START + _table(weight=value))


def test_a_global_with_a_dotted_name_is_refused(tmp_path: Path) -> None:
    names = (b"collections", b"OrderedDict.__reduce__")
    value = b"".join(b"\x8c" + bytes([len(name)]) + name for name in names) + b"\x93"  # protocol 4 follows the dots
    with pytest.raises(pickle.UnpicklingError, match=r"OrderedDict\.__reduce__"):
        _read(tmp_path / "hostile.pth", START + b"\x80\x04" + _table(weight=value))


@pytest.mark.parametrize("what", [b"ctorch\nFloatStorage\n", b"ctorch._utils\n_rebuild_tensor_v2\n"])
def test_a_pickle_cannot_change_what_it_was_given(tmp_path: Path, what: bytes) -> None:
    change = b"(N}V__doc__\nVchanged\nstb"  # the BUILD opcode with a state of slots: setattr(what, "__doc__", …)
    with pytest.raises(ValueError, match="expected a legacy PyTorch checkpoint"):
        _read(tmp_path / "hostile.pth", START + _table(weight=what + change))


def test_a_pickle_cannot_hide_the_table_behind_an_attribute(tmp_path: Path) -> None:
    renamed = _table(matrix=_tensor(0, (2, 3), (3, 1)))[:-1] + b"}Vitems\nVnothing\nsb."
    assert list(_read(tmp_path / "odd.pth", START + renamed + _storages(f=FLOATS))) == ["matrix"]


def test_a_wrong_hash_is_refused_before_anything_is_unpickled(tmp_path: Path) -> None:
    marker, path = tmp_path / "it ran", tmp_path / "hostile.pth"
    path.write_bytes(pickle.dumps(Hostile(marker)))
    with pytest.raises(ValueError, match=f"expected sha256 {'0' * 64}, received .*install it again"):
        torch_checkpoint.read(path, "0" * 64)
    assert not marker.exists()


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    for length in range(len(GOOD)):
        with pytest.raises(ValueError, match="expected a legacy PyTorch checkpoint"):
            _read(tmp_path / "short.pth", GOOD[:length])


def test_bytes_after_the_end_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected the end of the file"):
        _read(tmp_path / "long.pth", GOOD + b"\0")


@pytest.mark.parametrize(
    ("offset", "shape", "stride"),
    [
        (0, (7,), (1,)),  # longer than its storage
        (1, (6,), (1,)),  # begins too late
        (7, (0,), (1,)),  # empty, and outside
        (0, (2, 3), (4, 1)),  # the second row ends outside
        (0, (2,), (2**62,)),  # steps that overflow
        (0, (2**40,), (0,)),  # one element repeated until the memory is full
        (5, (6,), (-1,)),
        (-1, (1,), (1,)),
        (0, (-1,), (1,)),
        (0, (2, 3), (1,)),  # fewer strides than axes
    ],
)
def test_a_tensor_outside_its_storage_is_refused(
    tmp_path: Path, offset: int, shape: tuple[int, ...], stride: tuple[int, ...]
) -> None:
    data = START + _table(weight=_tensor(offset, shape, stride)) + _storages(f=FLOATS)
    with pytest.raises(ValueError, match=r"inside its storage of 6 elements|all 0 or more"):
        _read(tmp_path / "outside.pth", data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pickle.dumps(1, 2), "magic number: expected"),
        (pickle.dumps(MAGIC_NUMBER, 2) + pickle.dumps(1002, 2), "protocol version: expected 1001, received 1002"),
        (START.replace(b"\x88", b"\x89"), "expected little-endian"),
        (START + pickle.dumps([1], 2), "expected a table of tensors, received list"),
        (START + _table(weight=b"I1\n"), "'weight': expected a tensor, received int"),
        (START + _table(a=_tensor(0, (6,), (1,))) + _storages(f=FLOATS[:5]), "storage f: expected 6 elements"),
        (START + _table(a=_tensor(0, (6,), (1,))) + _storages(g=FLOATS), "expected the keys of 1 storages"),
        (START + _table(a=_tensor(0, (6,), (1,))) + pickle.dumps(["f", "f"], 2), "expected the keys of 1 storages"),
        (START + _table(a=_tensor(0, (1,), (1,), b"ctorch\nFloatStorage\nVf\nVcpu\nI6\n(Vv\nI0\nI1\nt")), "a view"),
        (
            START
            + _table(a=_tensor(0, (1,), (1,)), b=_tensor(0, (1,), (1,), b"ctorch\nDoubleStorage\nVf\nVcpu\nI6\nN")),
            "storage f: expected one type and size, received two",
        ),
        (b"PK\x03\x04 a zip file", "expected a legacy PyTorch checkpoint"),
    ],
)
def test_what_is_no_table_of_tensors_is_refused_with_the_reason(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _read(tmp_path / "odd.pth", data)
