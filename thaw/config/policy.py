"""What is done about each kind of bad or odd file: the part ``data.policy`` of the configuration."""

from dataclasses import dataclass, fields

REFUSALS = ("quarantine", "fail")  # what is done about a file that nothing can be learnt from
POLICIES = (*REFUSALS, "keep")  # what is done about a file that is only odd
STRETCH = "stretch"  # what may be done about unused bits besides
ODD = ("small", "animated", "misnamed", "converted", "cmyk", "deep", "unused_bits", "palette", "alpha", "rotated")


@dataclass
class Policy:
    """What is done about each kind of bad or odd file; what the kinds are is said in ``thaw.data.issues``.

    quarantine: the file is left out and listed. fail: the stage stops, after the list was written. keep: the file is
    used, and listed with what was done to it. stretch: used, by the bits that are in use.
    """

    empty: str  # quarantine or fail
    truncated: str  # quarantine or fail
    damaged: str  # quarantine or fail
    not_an_image: str  # quarantine or fail
    unsupported: str  # quarantine or fail
    too_large: str  # quarantine or fail
    unreadable: str  # quarantine or fail
    missing: str  # quarantine or fail
    link: str  # quarantine or fail
    misplaced: str  # quarantine or fail
    name: str  # quarantine or fail
    few: str  # quarantine (the class is left out) or fail
    small: str  # quarantine, fail or keep
    animated: str  # quarantine, fail or keep (its first frame)
    misnamed: str  # quarantine, fail or keep
    converted: str  # quarantine, fail or keep (a PNG copy is read in its place)
    cmyk: str  # quarantine, fail or keep
    deep: str  # quarantine, fail or keep
    unused_bits: str  # quarantine, fail, keep (they look black) or stretch (each file by the bits that it uses)
    palette: str  # quarantine, fail or keep
    alpha: str  # quarantine, fail or keep
    rotated: str  # quarantine, fail or keep

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            choices = [*POLICIES] if field.name in ODD else [*REFUSALS]
            choices += [STRETCH] if field.name == "unused_bits" else []
            if value not in choices:
                raise ValueError(f"data.policy.{field.name}: expected one of {', '.join(choices)}, received {value!r}")
