"""What one file is: an image that can be trained on, or why not and what is odd about it."""

import hashlib
import time
from pathlib import Path
from typing import Any

import PIL
from PIL import Image, features

from thaw import paths, records
from thaw.config import policy, schema
from thaw.data import file_hashes, fingerprints, validation_cache
from thaw.data.issues import Finding
from thaw.data.samples import Sample
from thaw.data.table import Entry
from thaw.images import content, decoding, header
from thaw.images.integrity import Unusable
from thaw.runtime import code_version

Verdict = tuple["Sample | None", list[Finding]]


def version(stretch: bool) -> str:
    """Return a hash that changes with the code that judges files and with the decoders that it calls."""
    total = hashlib.sha256(f"{PIL.__version__} {stretch}".encode())
    total.update(code_version.of("data", "images").encode())
    for name in ("libjpeg_turbo", "libtiff", "webp", "zlib"):
        total.update(f"{name} {features.version(name)}".encode())
    return total.hexdigest()[:16]


def judge(
    root: Path, entry: Entry, data: schema.Data, known: validation_cache.Memo, hashes: file_hashes.FileHashes
) -> Verdict:
    """Return the sample that a file gives, None where it is left out, and what is odd about it.

    Args:
        root: of the entry's path.
        known: what is known of contents; it is told of those that are new.
        hashes: of the files that are as they were in an earlier run.
    """
    try:
        held, sha256, record = _read(root / entry.path, known, hashes)
        record, pixels = look(held, sha256, record, data, known)
    except Unusable as refused:
        return None, [Finding(refused.kind, entry.path, refused.reason)]
    oddities = dict(record["oddities"])
    named = Image.EXTENSION.get(Path(entry.path).suffix.lower())
    if named and header.KINDS.get(named, named) != record["format"]:
        oddities["misnamed"] = f"a {record['format']} by its bytes"
    if min(record["width"], record["height"]) < data.min_side:
        oddities["small"] = f"{record['width']} × {record['height']}, below {data.min_side} pixels"
    used = ("keep", policy.STRETCH)
    refused_for = [kind for kind in oddities if getattr(data.policy, kind) not in used]
    if refused_for:
        return None, [Finding(kind, entry.path, oddities[kind]) for kind in refused_for]
    actions = {"converted": "converted"} | ({"unused_bits": "stretched"} if stretches(data) else {})
    odd = [Finding(kind, entry.path, reason, actions.get(kind, "kept")) for kind, reason in oddities.items()]
    place = (entry.path, sha256, entry.label, entry.split, record["width"], record["height"], record["fingerprint"])
    sample = Sample(*place, entry.group, entry.weight)
    if "converted" in oddities:
        sample.converted = _convert(pixels or _inspect(held, data)[1], sha256)
    return sample, odd


def _read(
    path: Path, known: validation_cache.Memo, hashes: file_hashes.FileHashes
) -> tuple[bytes, str, dict[str, Any] | None]:
    """Return the bytes of a file, none where all is known that they would be read for, their hash, and the memo's."""
    began, before = time.time_ns(), content.status(path)
    sha256 = hashes.known(before)
    record = known.get(sha256) if sha256 else None
    if record and "converted" not in record.get("oddities", {}) and not hashes.look_again():
        return b"", sha256, record
    held = content.read(path)
    found = hashlib.sha256(held).hexdigest()
    if sha256 not in ("", found):
        hashes.wrong.append(str(path))
    hashes.keep(path, before, began, found)
    return held, found, record if found == sha256 else known.get(found)


def look(
    held: bytes, sha256: str, record: dict[str, Any] | None, data: schema.Data, known: validation_cache.Kept
) -> tuple[dict[str, Any], Image.Image | None]:
    """Return what the content is, from the memo or by decoding it; the pixels too if decoded. Raises ``Unusable``."""
    pixels = None
    if record is None:
        try:
            picture, pixels = _inspect(held, data)
            record = vars(picture) | {"fingerprint": fingerprints.fingerprint(pixels)}
        except Unusable as refused:
            if refused.kind == "too_large":  # which the settings decide, not the content
                raise
            record = {"kind": refused.kind, "reason": refused.reason}
        known.put(sha256, record)
    if "kind" in record:
        raise Unusable(record["kind"], record["reason"])
    if record["width"] * record["height"] > data.max_pixels:
        raise Unusable("too_large", header.beyond(record["width"], record["height"], data.max_pixels))
    return record, pixels


def _inspect(held: bytes, data: schema.Data) -> tuple[decoding.Picture, Image.Image]:
    return decoding.inspect(held, data.max_pixels, stretch=stretches(data))


def stretches(data: schema.Data) -> bool:
    """Return whether grey levels are stretched to all bits where the upper ones are not used."""
    return data.policy.unused_bits == policy.STRETCH


def _convert(pixels: Image.Image, sha256: str) -> str:
    """Write the PNG that is read in place of a file, and return its hash."""
    made, path = decoding.png(pixels), paths.converted(sha256)
    records.write_bytes(path, made)  # files with the same bytes may be judged at the same time
    return hashlib.sha256(made).hexdigest()
