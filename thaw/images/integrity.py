"""Check a file's bytes for faults that Pillow passes over and TensorFlow would not: truncated parts, unknown forms."""

import struct
import zlib

RARE_JPEG = {0xC3, *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)}  # marks of frames; C0 to C2 are common
SEARCHED_BYTES = 1 << 17  # of a JPEG, in which thaw.images.preprocessing looks for EXIF
BITFIELDS = struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)  # the one order of colours that TensorFlow knows


class Unusable(Exception):  # noqa: N818 -- not an error of the program
    """Carries the kind and the reason of a file that nothing can be learnt from."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)
        self.kind, self.reason = kind, reason


def check(kind: str, data: bytes) -> None:
    """Walk through the parts of a file without decoding them.

    Args:
        kind: the format, as in ``header.KINDS``.
        data: the file's bytes.

    Raises:
        Unusable: something is missing, or fails its checksum.
        IndexError, struct.error: the file ends in the midst of a number.
    """
    if kind == "JPEG":
        _jpeg(data)
    elif kind == "PNG":
        _png(data)
    elif kind == "GIF" and not _gif_is_whole(data):
        raise Unusable("truncated", "the GIF ends early")
    elif kind == "BMP" and _bmp_surplus(data) < 0:
        raise Unusable("truncated", "the BMP ends early")


def ends_early(data: bytes) -> bool:
    """Return whether a file that cannot be read at all is truncated: it lacks what stands at the end of its format."""
    if data.startswith(b"RIFF"):
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if data.startswith((b"II*\0", b"MM\0*")):
        return int.from_bytes(data[4:8], "little" if data.startswith(b"II") else "big") + 2 > len(data)
    return (data.startswith(b"\xff\xd8\xff") and b"\xff\xd9" not in data) or (
        data.startswith(b"\x89PNG") and b"IEND" not in data
    )


def orientation(data: bytes) -> int:
    """Return the EXIF orientation, 1 to 8, that ``thaw.images.preprocessing`` finds in a JPEG, by the same steps."""
    start = data[:SEARCHED_BYTES]
    if b"Exif" not in start:
        return 1

    def at(place: int) -> int:
        return start[min(place, len(start) - 1)]

    def is_exif(place: int) -> bool:
        return at(place + 1) == 0xE1 and bytes(at(place + 4 + number) for number in range(6)) == b"Exif\0\0"

    segment = 2
    while (
        segment + 10 < len(start)
        and at(segment) == 0xFF
        and at(segment + 1) not in (0xD9, 0xDA)
        and not is_exif(segment)
    ):
        is_filling = at(segment + 1) == 0xFF
        segment += 1 if is_filling else 2 + at(segment + 2) * 256 + at(segment + 3)
    if not is_exif(segment) or segment + 18 >= len(start):
        return 1
    tiff = segment + 10
    low, high = (0, 2) if at(tiff) == ord("I") else (2, 0)  # where the halves of four bytes are

    def short(place: int) -> int:
        first, second = at(place), at(place + 1)
        return first + second * 256 if low == 0 else first * 256 + second

    directory = tiff + short(tiff + 4 + low)
    for entry in range(directory + 2, directory + 2 + 12 * min(short(directory), 512), 12):
        if short(entry) == 274 and entry + 12 <= len(start):
            is_one = (short(entry + 4 + low), short(entry + 4 + high)) == (1, 0)
            is_long = short(entry + 2) == 4 and short(entry + 8 + high) == 0
            value = short(entry + 8) if short(entry + 2) == 3 else short(entry + 8 + low) if is_long else 1
            return value if is_one and 1 <= value <= 8 else 1
    return 1


def _jpeg(data: bytes) -> None:
    """Look for the end mark of the first picture; thumbnails before it and pictures after it don't count."""
    place = 2
    while data[place : place + 2] != b"\xff\xda":  # there the picture's bytes begin, in which no mark occurs by chance
        mark = data[place + 1]
        if data[place] != 0xFF or mark == 0xFF:  # filling
            place += 1
        elif mark in RARE_JPEG:
            raise Unusable("unsupported", "a JPEG in a rare coding (lossless, hierarchical or arithmetic)")
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    if data.find(b"\xff\xd9", place) < 0:
        raise Unusable("truncated", "the JPEG ends early")


def _png(data: bytes) -> None:
    """Check that every chunk up to the end mark is there and has the right CRC."""
    place = 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        end = place + 8 + length
        if end + 4 > len(data):
            break
        if data[end : end + 4] != zlib.crc32(data[place + 4 : end]).to_bytes(4, "big"):
            raise Unusable("damaged", "a part of the PNG fails its checksum")
        if data[place + 4 : place + 8] == b"IEND":
            return
        place = end + 4
    raise Unusable("truncated", "the PNG ends early")


def _gif_is_whole(data: bytes) -> bool:
    """Return whether the first frame is there up to its end mark; the others are not used."""

    def table(flags: int) -> int:
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    def after_blocks(place: int) -> int:
        while data[place]:
            place += data[place] + 1
        return place + 1

    place = 13 + table(data[10])
    while data[place] == 0x21:  # an extension
        place = after_blocks(place + 2)
    return data[place] == 0x2C and after_blocks(place + 11 + table(data[place + 9])) <= len(data)


def odd_bmp(mode: str, data: bytes) -> str:
    """Return what TensorFlow stops at or misreads: it reads a BMP by its plainest form, and palette indices as grey
    values.

    Args:
        mode: Pillow's, which says whether a palette is one of greys.
        data: the file's bytes.
    """
    (header,) = struct.unpack_from("<I", data, 14)
    if header < 40:
        return "OS/2 BMP"
    bits, compression = struct.unpack_from("<HI", data, 28)
    if bits not in (8, 24, 32) or (bits == 8 and mode != "L"):
        return f"BMP with {'a palette' if bits <= 8 else f'{bits} bits a pixel'}"
    if compression != 0 and not (bits == 32 and compression == 3 and data[54:66] == BITFIELDS):
        return "compressed BMP"
    if mode == "RGBA":
        return "BMP with transparency"
    return "BMP with bytes left over" if _bmp_surplus(data) else ""


def _bmp_surplus(data: bytes) -> int:
    """Return the bytes beyond those that the header announces, below zero if some are missing; 0 where that can't be
    told.
    """
    start, header = struct.unpack_from("<II", data, 10)
    width, height, _, bits = struct.unpack_from("<HHHH" if header == 12 else "<iiHH", data, 18)
    compression = struct.unpack_from("<I", data, 30)[0] if header >= 20 else 0
    if compression not in (0, 3):
        return 0
    return len(data) - int(start) - (int(width) * int(bits) + 31) // 32 * 4 * abs(int(height))
