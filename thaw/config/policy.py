"""The group ``data.policy`` of the configuration: what is done about each kind of bad or odd file."""

from dataclasses import dataclass, fields

REFUSALS = ("quarantine", "fail")  # what is done about a file that nothing can be learnt from
POLICIES = (*REFUSALS, "keep")  # what is done about a file that is only odd
STRETCH = "stretch"  # what may be done about unused bits besides
ODD = ("small", "animated", "misnamed", "converted", "cmyk", "deep", "unused_bits", "palette", "alpha", "rotated")


def choices(kind: str) -> tuple[str, ...]:
    """Return what may be done about a kind of file."""
    return (*(POLICIES if kind in ODD else REFUSALS), *((STRETCH,) if kind == "unused_bits" else ()))


@dataclass
class Policy:
    """The action for each kind of bad or odd file; the kinds are described in ``thaw.data.issues``.

    quarantine: the file is left out and listed. fail: the stage stops, after the list was written. keep: the file is
    used, and listed with what was done to it. stretch: used, by the bits that are in use.
    """

    empty: str  # a file of no bytes
    truncated: str  # the end is missing: a download or a copy that broke off
    damaged: str  # a checksum is wrong, or what is there makes no sense
    not_an_image: str  # text, a web page, a film, a HEIC or raw photograph
    unsupported: str  # an image of another format, of a rare coding, or with 32 bits a channel
    too_large: str  # more than `data.max_pixels` pixels, found before any is decoded, or more than 512 MiB
    unreadable: str  # no permission, a failing disk, or not a file
    missing: str  # named in a table, and not there
    link: str  # broken, in a circle, or leading to a folder that it lies in
    misplaced: str  # outside the class folders, or too deep in them
    name: str  # not valid Unicode
    few: str  # a class of fewer than `data.min_per_class` usable images
    small: str  # width or height below `data.min_side`
    animated: str  # several frames or pages, of which the first would count
    misnamed: str  # the name has another format's ending
    converted: str  # TensorFlow does not decode it, or not to these pixels: a PNG copy is read in its place
    cmyk: str  # made for print
    deep: str  # 16 bits a channel
    unused_bits: str  # 16 bits a channel, of which 8, 10, 12 or 14 are in use
    palette: str  # colours from a palette, other than in a GIF
    alpha: str  # transparent, or could be
    rotated: str  # lies on its side or is mirrored, with an EXIF note how to turn it

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value not in (allowed := choices(field.name)):
                raise ValueError(f"data.policy.{field.name}: expected one of {', '.join(allowed)}, received {value!r}")
