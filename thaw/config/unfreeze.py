"""``phase2.unfreeze`` parsed: how much of the backbone is fine-tuned.

This is the one place that knows how the value is written. Which layers it comes to depends on the network:
``thaw.networks.freeze_boundaries.find``.
"""

import re
from dataclasses import dataclass
from enum import Enum

VARIABLES = "variables:"  # what the value begins with where a pattern follows


class Kind(Enum):
    """The ways to say how much is unfrozen. The first three are words of their own."""

    NONE = "none"
    ALL = "all"
    AUTO = "auto"  # chosen from what phase 1 has left: ``thaw.features.auto_unfreeze``
    LAYERS = "layers"
    BLOCKS = "blocks"
    SHARE = "share"
    BLOCK = "block"
    VARIABLES = "variables"


@dataclass(frozen=True)
class UnfreezeSpec:
    """A value of ``phase2.unfreeze``; make one with ``parse``."""

    text: str  # as it was written
    kind: Kind
    number: float = 0  # of layers or of blocks, counted from the output; or the share of the computation, 0 to 1
    name: str = ""  # of the block that is unfrozen with all behind it; or the pattern of the variables

    def __str__(self) -> str:
        return self.text

    @classmethod
    def parse(cls, text: str) -> "UnfreezeSpec":
        """Return what a value means: 40 (layers), 3blocks, 30% (of the computation), a block, none, all, auto, or
        variables:PATTERN.

        Raises:
            ValueError: it is none of these, whatever the network; one line.
        """
        if text in (Kind.NONE.value, Kind.ALL.value, Kind.AUTO.value):
            return cls(text, Kind(text))
        if text.startswith(VARIABLES):
            return cls(text, Kind.VARIABLES, name=_pattern(text))
        written = re.fullmatch(r"([+-]?\d+(?:\.\d+)?) ?(blocks?|%|)", text)
        if text and written is None:
            return cls(text, Kind.BLOCK, name=text)
        if written and written[2] == "%" and 0 < float(written[1]) <= 100:
            return cls(text, Kind.SHARE, float(written[1]) / 100)
        if written and written[2] != "%" and written[1].isdecimal() and int(written[1]) >= 1:
            return cls(text, Kind.BLOCKS if written[2] else Kind.LAYERS, int(written[1]))
        raise ValueError(
            "phase2.unfreeze: expected a number of layers from 1 (40), of blocks (3blocks), a share of the "
            f"computation up to 100% (30%), a block's name, none, all or auto, received {text!r}"
        )


def _pattern(text: str) -> str:
    """Return the regular expression that follows ``variables:``."""
    pattern = text.removeprefix(VARIABLES)
    try:
        re.compile(pattern)
        fault = "" if pattern else "it is empty"
    except re.error as error:
        fault = str(error)
    if fault:
        raise ValueError(
            f"phase2.unfreeze: expected a regular expression after {VARIABLES}, received {text!r} ({fault})"
        )
    return pattern
