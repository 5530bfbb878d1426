"""Read a PyTorch checkpoint in the legacy (not zip) format without PyTorch, and without trusting it.

A checkpoint is a pickle, and a pickle is a program: loading one in the plain way runs what its author wrote. Here the
file's hash is checked first, and the unpickler then admits only what a table of tensors is made of.

The format, as ``torch.save(..., _use_new_zipfile_serialization=False)`` writes it: four pickles in a row (a magic
number, the protocol's version, facts about the writing machine, the saved object), a pickled list of storage keys, and
then each storage: its number of elements as a 64-bit little-endian integer, and its raw elements.
"""

import hashlib
import io
import math
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001
COUNT_BYTES = 8

# Storage types stay plain strings while unpickling: a string is immutable, so a hostile pickle can't change it.
STORAGE_TYPES = {
    "ByteStorage": "|u1",
    "CharStorage": "|i1",
    "ShortStorage": "<i2",
    "IntStorage": "<i4",
    "LongStorage": "<i8",
    "HalfStorage": "<f2",
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "BoolStorage": "|b1",
}


class _RefusedGlobalError(pickle.UnpicklingError):
    """The pickle asks for a function or a class that no table of tensors needs."""


class _Storage(NamedTuple):
    key: str
    dtype: str
    size: int  # elements


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int  # elements
    shape: tuple[int, ...]
    stride: tuple[int, ...]  # elements


def _are_counts(*values: object) -> bool:
    return all(type(value) is int and value >= 0 for value in values)


class _Unpickler(pickle.Unpickler):
    """Admits ordered dictionaries, storages and tensors; refuses every other global by its name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._tensor
        if module == "torch" and name in STORAGE_TYPES:
            return STORAGE_TYPES[name]
        raise _RefusedGlobalError(
            f"{module}.{name}: expected only tensors, storages and OrderedDict in a checkpoint, received another "
            "global; the file may be hostile, do not load it by other means"
        )

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _device, count, *view = pid
        if kind != "storage" or dtype not in STORAGE_TYPES.values() or type(key) is not str or not _are_counts(count):
            raise ValueError(f"expected a storage's type, key and size, received {pid!r:.200}")
        if view not in ([], [None]):
            raise ValueError(f"storage {key}: expected a whole storage, received a view of one ({view!r:.100})")
        return _Storage(key, dtype, count)

    def _tensor(self, storage: Any, offset: Any, shape: Any, stride: Any, *_grad_and_hooks: Any) -> _Tensor:
        if type(storage) is not _Storage or type(shape) is not tuple or type(stride) is not tuple:
            raise ValueError("expected a tensor's storage, shape and strides, received something else")
        if len(shape) != len(stride) or not _are_counts(offset, *shape, *stride):
            raise ValueError(
                f"expected an offset, a shape and as many strides, all 0 or more, "
                f"received {offset!r:.50}, {shape!r:.100} and {stride!r:.100}"
            )
        return _Tensor(storage, offset, shape, stride)


def _array(name: str, tensor: _Tensor, elements: np.ndarray) -> np.ndarray:
    """Copy the tensor out of its storage, after proof that each of its elements lies inside."""
    size = math.prod(tensor.shape)
    last = tensor.offset + sum((side - 1) * step for side, step in zip(tensor.shape, tensor.stride, strict=True))
    # A stride of 0 repeats an element: inside the storage, and yet of any size. So the size is bounded as well.
    if size > len(elements) or (size and last >= len(elements)) or tensor.offset > len(elements):
        raise ValueError(
            f"{name}: expected a tensor inside its storage of {len(elements)} elements, received shape {tensor.shape} "
            f"with strides {tensor.stride} at {tensor.offset}"
        )
    steps = [step * elements.itemsize for step in tensor.stride]
    window = np.lib.stride_tricks.as_strided(elements[tensor.offset :], tensor.shape, steps, writeable=False)
    return np.array(window, dtype=elements.dtype.newbyteorder("="), order="C")


def _raw(file: io.BytesIO, storage: _Storage) -> np.ndarray:
    """Return the next storage of the file."""
    head = file.read(COUNT_BYTES)
    count = int.from_bytes(head, "little")
    if len(head) < COUNT_BYTES or count != storage.size:
        raise ValueError(f"storage {storage.key}: expected {storage.size} elements, received {count}")
    size = count * np.dtype(storage.dtype).itemsize
    data = file.read(size)
    if len(data) < size:
        raise ValueError(f"storage {storage.key}: expected {size} bytes, received {len(data)}: the file is cut short")
    return np.frombuffer(data, storage.dtype)


def _parse(file: io.BytesIO) -> dict[str, np.ndarray]:
    for what, expected in (("magic number", MAGIC_NUMBER), ("protocol version", PROTOCOL_VERSION)):
        received = _Unpickler(file).load()
        if received != expected:
            raise ValueError(f"{what}: expected {expected}, received {received!r:.100}")
    if _Unpickler(file).load().get("little_endian") is not True:
        raise ValueError("expected little-endian storages, received others")

    saved = _Unpickler(file).load()
    if not isinstance(saved, dict):
        raise ValueError(f"expected a table of tensors, received {type(saved).__name__}")
    tensors: dict[str, _Tensor] = {}
    storages: dict[str, _Storage] = {}
    for name, tensor in dict.items(saved):  # not saved.items: a pickle may have set an attribute of that name
        if type(name) is not str or type(tensor) is not _Tensor:
            raise ValueError(f"{name!r:.100}: expected a tensor, received {type(tensor).__name__}")
        if storages.setdefault(tensor.storage.key, tensor.storage) != tensor.storage:
            raise ValueError(f"storage {tensor.storage.key}: expected one type and size, received two")
        tensors[name] = tensor

    keys = _Unpickler(file).load()
    if type(keys) is not list or len(keys) != len(storages) or set(keys) != set(storages):
        raise ValueError(f"expected the keys of {len(storages)} storages, each once, received another list of keys")
    raw = {key: _raw(file, storages[key]) for key in keys}
    if file.read(1):
        raise ValueError("expected the end of the file after the last storage, received more bytes")
    return {name: _array(name, tensor, raw[tensor.storage.key]) for name, tensor in tensors.items()}


def read(path: Path, sha256: str) -> dict[str, np.ndarray]:
    """Read a legacy PyTorch checkpoint that is a table of tensors (a ``state_dict``).

    Args:
        path: the ``.pth`` file.
        sha256: hex digest that the file must have; it is checked before anything is unpickled.

    Returns:
        The tensors by name, in the file's order, each with its own memory and the shape and dtype it was saved with.

    Raises:
        ValueError: the file has another hash, is cut short or is not such a checkpoint.
        pickle.UnpicklingError: the file asks for a global other than tensors, storages and ``OrderedDict``.
    """
    data = path.read_bytes()  # hashed and parsed from the same bytes, so nobody can exchange the file in between
    received = hashlib.sha256(data).hexdigest()
    if received != sha256:
        raise ValueError(
            f"{path}: expected sha256 {sha256}, received {received}; the file is damaged or not the one that was "
            "checked, install it again"
        )
    try:
        return _parse(io.BytesIO(data))
    except _RefusedGlobalError as error:
        raise _RefusedGlobalError(f"{path}: {error}") from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ValueError(
            f"{path}: expected a legacy PyTorch checkpoint, received a file that does not read as one ({error}); "
            "fetch the file again"
        ) from error
