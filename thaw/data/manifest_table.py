"""Write the manifest: a CSV file for people, and the same by column as Parquet, which is what later stages read.

Parquet keeps the columns one by one, those of few values as numbers of these. It says the hash of the CSV file that it
was written with, and holds for that one only (``thaw.images.columns``). The fingerprints are in the CSV file alone:
nobody reads them but ``prepare``, which has them at hand.
"""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from thaw import paths, records
from thaw.data.attributes import Attributes
from thaw.data.packed import Rows
from thaw.data.samples import Sample
from thaw.images import columns

AT_ONCE = 16_384  # rows of a part: memory and size, not what is read
NUMBERS = {"width": pa.int32(), "height": pa.int32(), "weight": pa.float64()}


def write(samples: Rows[Sample], own: Attributes) -> None:
    """Write the manifest of the project in the current folder.

    Args:
        samples: the images, with their splits and units.
        own: what the user's table says of them besides.
    """
    names = [*samples.columns, *own.names]
    rows = ({name: getattr(sample, name) for name in samples.columns} | own.row(sample.path) for sample in samples)
    records.write_csv(paths.MANIFEST, names, rows)
    fields = [(name, NUMBERS.get(name, columns.kind(name))) for name in names if name not in columns.LEFT_OUT]
    schema = pa.schema(fields, {columns.OF: records.sha256(paths.MANIFEST)})
    few = [name for name, kind in fields if pa.types.is_dictionary(kind)]
    with (
        records.replaced(paths.MANIFEST_COLUMNS) as part,
        pyarrow.parquet.ParquetWriter(
            part, schema, use_dictionary=few, compression="zstd", write_page_checksum=True
        ) as writer,
    ):
        for batch in _batches(samples, own, schema):
            writer.write_batch(batch)


def _batches(samples: Rows[Sample], own: Attributes, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(samples), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        found: dict[str, Any] = {
            name: column[part] for name, column in samples.columns.items() if name in schema.names
        }
        more = [own.row(path) for path in found["path"]] if own.names else []
        found |= {name: [row[name] for row in more] for name in own.names}
        yield pa.record_batch([pa.array(found[name], schema.field(name).type) for name in schema.names], schema=schema)
