"""The kinds of bad and odd files, and what a person can do about each."""

from dataclasses import dataclass, field

from thaw.data import packed

# Kind → remedy. Each kind is a field of ``thaw.config.policy``, which says what happens to such files.
REMEDIES = {
    "empty": "replace it with a whole copy, or remove it",
    "truncated": "replace it with a whole copy, or remove it",
    "damaged": "replace it with a whole copy, or remove it",
    "not_an_image": "remove it; if it is a photograph (HEIC, raw), save it again as PNG or JPEG",
    "unsupported": "save it again as PNG or JPEG",
    "too_large": "make it smaller, or raise data.max_pixels if it is what it should be",
    "unreadable": "see to it that it can be read, or remove it",
    "missing": "put the file there, or remove its row",
    "link": "put what it should lead to in place of the link, or remove it",
    "misplaced": "move it into its class folder if it is an image; data.nested=true takes folders in class folders",
    "name": "rename it",
    "few": "add images, remove the class, or set data.min_per_class",
    "small": "replace it with a larger one, or set data.min_side",
    "animated": "save one frame as PNG or JPEG; data.policy.animated=keep takes the first",
    "misnamed": "rename it, if other programs go by the name",
    "converted": "save it again as PNG or JPEG, if the exported model is to read it without `thaw predict`",
    "cmyk": "save it as RGB, if its colours matter: they are converted without its colour profile",
    "deep": "nothing, unless the lower 8 bits matter",
    "unused_bits": "nothing if dark is not dark by intention; else set data.policy.unused_bits=keep",
    "palette": "nothing",
    "alpha": "put it on another background, if white is not what it was made for",
    "rotated": "nothing",
}


@dataclass(slots=True)
class Finding:
    """A finding about a file: its kind, the reason and the action."""

    kind: str = field(metadata=packed.WORD)  # a key of REMEDIES
    path: str = field(metadata=packed.TEXT)  # POSIX, relative to the folder of images; of a class its name
    reason: str = field(metadata=packed.WORD)  # what was seen
    action: str = field(default="quarantined", metadata=packed.WORD)  # or converted, or kept

    @property
    def remedy(self) -> str:
        """Return what a person can do about it."""
        return REMEDIES[self.kind]
