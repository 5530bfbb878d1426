"""The record of a usable image."""

from dataclasses import dataclass, field

from thaw.data import packed


@dataclass(slots=True)
class Sample:
    """A usable image."""

    path: str = field(metadata=packed.TEXT)  # POSIX, relative to the folder of images
    sha256: str = field(metadata=packed.HEX)  # of the file's bytes, hex
    label: str = field(metadata=packed.WORD)  # name of the class
    # train, val or test as the folders or the table say; empty if it is to be drawn
    split: str = field(metadata=packed.WORD)
    width: int = field(metadata=packed.INT)  # pixels, upright
    height: int = field(metadata=packed.INT)  # pixels, upright
    # what images that look alike have in common, see ``thaw.data.near_duplicates``
    fingerprint: str = field(metadata=packed.ON_DISK)
    group: str = field(default="", metadata=packed.WORD)  # what must stay in one split; empty for none
    weight: float = field(default=1.0, metadata=packed.FLOAT)
    # sha256 of the PNG that is read in its place, ``paths.converted``; empty if there is none
    converted: str = field(default="", metadata=packed.TEXT)
    # number of the set of images that must stay together, see ``thaw.data.splits``; empty if it is alone
    unit: str = field(default="", metadata=packed.NUMBER)
