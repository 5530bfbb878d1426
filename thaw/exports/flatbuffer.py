"""LiteRT's flatbuffers as they are written and read: metadata in them, and names that follow from the graph alone."""

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

METADATA = "thaw"  # the name of the metadata that is, as JSON, what the file is to be known by
KEPT = (b"min_runtime_version",)  # of the converter's own metadata; the rest names versions
ALIGNED = 16  # bytes: LiteRT computes with the weights where they lie in the file
# Where LiteRT's schema keeps the fields: of a model, of an entry of metadata, and of a buffer.
_BUFFERS, _ALL_METADATA = 4, 6
_NAME, _BUFFER = 0, 1
_DATA = 0


def finished(content: bytes, about: Mapping[str, Any]) -> bytes:
    """Return a converted file with its metadata, under canonical names: equal models are equal bytes.

    Args:
        content: of one graph, from images to probabilities, and perhaps to a second output.
        about: what it is to be known by.
    """
    import flatbuffers  # noqa: PLC0415 -- only needed to write
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415

    class Aligned(schema.BufferT):  # type: ignore[misc]
        """A buffer that begins where weights may."""

        def Pack(self, builder: Any) -> Any:  # noqa: N802 -- is its name
            builder.Prep(ALIGNED, 0 if self.data is None else len(self.data))
            return super().Pack(builder)

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content, 0))
    model.description = b"thaw"
    (graph,) = model.subgraphs
    # The signature knows the outputs by name; quantising may change their order.
    outputs = {each.name.decode(): each.tensorIndex for each in model.signatureDefs[0].outputs}
    graph.outputs = [outputs[name] for name in sorted(outputs)]  # the probabilities first
    ends = {graph.inputs[0]: "images"} | {index: name for name, index in outputs.items()}
    for number, tensor in enumerate(graph.tensors):
        tensor.name = ends.get(number, f"value_{number}").encode()
    entry, buffer = schema.MetadataT(), schema.BufferT()
    entry.name, entry.buffer = METADATA.encode(), len(model.buffers)
    text = json.dumps(about, sort_keys=True, ensure_ascii=False).encode()
    buffer.data = np.frombuffer(text, np.uint8)
    model.metadata = [each for each in model.metadata or [] if each.name in KEPT] + [entry]
    kept = {0, *(each.buffer for each in model.metadata), *(tensor.buffer for tensor in graph.tensors)}
    for number, each in enumerate(model.buffers):
        if number not in kept:
            each.data = None  # of metadata that is left out
        elif each.offset > 1:  # as quantising writes them: behind the flatbuffer
            each.data = np.frombuffer(content, np.uint8, each.size, each.offset)
    model.buffers = [Aligned(each.data) for each in (*model.buffers, buffer)]
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def metadata(content: bytes) -> str | None:
    """Return the metadata that ``finished`` has put in a file; None where there is none.

    Written out here since LiteRT's own module for it takes longer to import than a model takes to answer.

    Raises:
        struct.error, UnicodeDecodeError: it is no flatbuffer, or a damaged one.
    """
    model = _indirect(content, 0)
    for place in _vector(content, model, _ALL_METADATA):
        entry = _indirect(content, place)
        if _bytes(content, entry, _NAME) == METADATA.encode():
            number = _field(content, entry, _BUFFER)
            buffers = _vector(content, model, _BUFFERS)
            at = _indirect(content, buffers[_u32(content, number) if number else 0])
            return _bytes(content, at, _DATA).decode()
    return None


def _u32(content: bytes, place: int) -> int:
    (value,) = struct.unpack_from("<I", content, place)
    return int(value)


def _indirect(content: bytes, place: int) -> int:
    return place + _u32(content, place)


def _field(content: bytes, table: int, number: int) -> int:
    """Return where a table has a field; 0 if it has none."""
    (back,) = struct.unpack_from("<i", content, table)
    listed = table - back
    size, offset = struct.unpack_from("<H", content, listed)[0], 0
    if 4 + 2 * number < size:
        (offset,) = struct.unpack_from("<H", content, listed + 4 + 2 * number)
    return table + offset if offset else 0


def _vector(content: bytes, table: int, number: int) -> range:
    """Return where the entries of a list are, 4 bytes each."""
    place = _field(content, table, number)
    if not place:
        return range(0)
    start = _indirect(content, place)
    return range(start + 4, start + 4 + 4 * _u32(content, start), 4)


def _bytes(content: bytes, table: int, number: int) -> bytes:
    place = _field(content, table, number)
    if not place:
        return b""
    start = _indirect(content, place)
    return content[start + 4 : start + 4 + _u32(content, start)]
