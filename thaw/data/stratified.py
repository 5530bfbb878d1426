"""Draw stratified splits by content: train, validation and test, and keep each image where it is for good.

Images that belong together (the same bytes, alike, one group) are one unit, which goes to one split. A first division
depends on the hashes of the images and the seed, never on names or the order of files: within a class the units are
ordered by ``sha256(seed, content)``; the test takes its share from the low end, validation from the high end, training
keeps the middle. So each class is divided exactly, to half a unit.

What was divided before is remembered, as a file beside the images. When images are added, the old ones stay where they
are, and the new ones fill each class's shares up, by the same rule. Without a memory this cannot be had: a limit for
the hash leaves the shares to chance, an exact share moves old images, and of two images that are alike nobody can say
which was there first. With it both hold: no old image changes its split because others came, and each class's shares
are exact as long as enough new units come.

- New images that belong to old ones of one split join them there.
- New images that belong to old ones of several splits would leak whichever way they went: they are left out.
- Splits that came with the images count like old ones that nothing moves, training where others can be drawn from.
- Images with two labels for the same bytes go to training with all that belongs to them. If an old one of these is
  held out, they are left out instead, so that nothing is trained on that was tested on before.

Only links between old images that were not known before (another threshold, new groups) can move an old image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thaw.data import clusters, placement
from thaw.data.placement import FREE, HELD_OUT, LEFT_OUT, NAMES, NUMBERS, Images, Placed, Units

TRAIN = NUMBERS["train"]


def draw(
    contents: Sequence[str],
    labels: Sequence[str],
    *,
    val: float,
    test: float,
    seed: int,
    links: clusters.Links = (),
    keys: clusters.Keys = (),
    given: Sequence[str] = (),
    known: Mapping[str, str] | None = None,
) -> list[str]:
    """Draw a stratified split.

    Args:
        contents: the sha256 of each image's bytes, hex. Equal ones belong together.
        labels: the class of each image, as many.
        val: share of each class's images for validation, 0 to 0.5; 0 for none.
        test: share of each class's images for the test, 0 to 0.5; 0 for none.
        seed: another one, another split.
        links: pairs of images that belong together for another reason.
        keys: lists with a word for each image; those with the same word belong together, an empty one says nothing.
            Numbers may stand for words, and such as are below 0 for an empty one.
        given: "val" or "test" for images that stay there; "train" for those that stay as ``complete`` says; else "".
        known: the split of contents that were divided before.

    Returns:
        "train", "val" or "test" for each image, or ``LEFT_OUT``.

    Raises:
        ValueError: a class has too few units to have one in every split that is drawn.
    """
    own = placement.images(contents, labels, links, keys)
    came = placement.splits(given, none=FREE) if len(given) else np.full(len(own), FREE, np.int8)
    old = placement.before(contents, known or {})
    return placement.names(_drawn(own, came, old, val=val, test=test, seed=seed, again=bool(known)))


def _drawn(own: Images, given: Placed, old: Placed, *, val: float, test: float, seed: int, again: bool) -> Placed:
    shares = {split: share for split, share in (("test", test), ("val", val)) if share > 0}
    whole, kept = own.joined(), placement.kept(own, given)
    torn = clusters.torn(own.content, own.label)
    while True:
        placed, sides = placement.settled(own, whole, given, old, ("train", *shares), kept)
        tested, learned = np.zeros((2, len(own)), np.bool_)
        tested[whole[placement.held_out(placed)]], learned[whole[torn]] = True, True
        for_training = learned[whole] & ~tested[whole]
        placed[for_training] = TRAIN
        # They hold their cluster together, and go nowhere.
        barred = torn & ~for_training & (placed != TRAIN) & (given == FREE)
        units = placement.units(own, placed, sides, barred, seed)
        few = kept & placement.short(own, units, placed, list(shares))[own.label] if kept.any() else kept
        if not few.any():
            break
        kept = kept & ~few  # what came without a split is too few, or bound elsewhere
    placed[barred] = NUMBERS[LEFT_OUT]
    _fill(_Filling(own, whole, placed, for_training, kept, shares, again), units)
    placed[placed == FREE] = NUMBERS[LEFT_OUT]
    return placed


@dataclass(frozen=True)
class _Filling:
    """What is filled: ``placed``, by which each image has a split in the end."""

    own: Images
    whole: NDArray[np.int32]
    placed: Placed
    for_training: NDArray[np.bool_]
    kept: NDArray[np.bool_]  # given to training, and not drawn from: the shares are of the others
    shares: Mapping[str, float]
    again: bool  # whether images were divided before

    def count(self, some: NDArray[np.bool_]) -> list[list[int]]:
        """Return how many of some images are in each split, by number and class."""
        there = some & (self.placed >= 0)
        cells = self.placed[there] * np.int64(len(self.own.labels)) + self.own.label[there]
        return np.bincount(cells, minlength=len(NAMES) * len(self.own.labels)).reshape(len(NAMES), -1).tolist()


def _fill(to: _Filling, units: Units) -> None:
    """Put each unit where its classes' shares have room, and one of each class into each split."""
    own, placed, shares = to.own, to.placed, to.shares
    parts = ("train", *shares)
    drawn = np.isin(placed, [FREE, *(NUMBERS[split] for split in parts)])
    totals = np.bincount(own.label[drawn & ~to.kept], minlength=len(own.labels)).tolist()
    tally, clean = to.count(drawn), to.count(drawn & ~to.for_training)
    # The classes of each unit, and how many of its images are of each.
    unit_of = np.repeat(np.arange(len(units)), np.diff(units.start))
    cells, counts = np.unique(unit_of * len(own.labels) + own.label[units.images], return_counts=True)
    of, kinds, sizes = (
        each.astype(np.int32) for each in (cells // max(len(own.labels), 1), cells % max(len(own.labels), 1), counts)
    )
    del unit_of, cells, counts  # eight bytes an image each
    ends = np.searchsorted(of, np.arange(len(units) + 1)).astype(np.int32)
    order = np.lexsort((units.place[of], kinds))  # by class, and in each by place
    bounds = np.searchsorted(kinds[order], np.arange(len(own.labels) + 1))

    def put(unit: int, split: str) -> None:
        number = NUMBERS[split]
        placed[units.images[units.start[unit] : units.start[unit + 1]]] = number
        for cell in range(ends[unit], ends[unit + 1]):
            tally[number][kinds[cell]] += int(sizes[cell])
            clean[number][kinds[cell]] += int(sizes[cell])

    def fits(unit: int, split: str) -> bool:
        cells = range(ends[unit], ends[unit + 1])
        own = ((kinds[cell], int(sizes[cell])) for cell in cells)
        return all(tally[NUMBERS[split]][kind] + n <= shares[split] * totals[kind] + 0.5 for kind, n in own)

    for label in sorted(np.unique(own.label[drawn]).tolist(), key=own.labels.__getitem__):
        free = of[order[bounds[label] : bounds[label + 1]]]
        free = free[placed[units.images[units.start[free]]] == FREE]
        lacking = [split for split in parts if not clean[NUMBERS[split]][label]]
        if shares and len(free) < len(lacking):
            raise ValueError(_too_few(to, label, lacking))
        for split, share in shares.items():
            waiting = sum(other != split for other in lacking)
            left = np.ones(len(free), np.bool_)
            count, most = len(free), share * totals[label] + 0.5
            for number in range(len(free))[:: -1 if split == "val" else 1]:
                # One with many images may be passed over; smaller ones fill the share up to half an image.
                if tally[NUMBERS[split]][label] + 1 > most or count <= waiting:
                    break
                if fits(unit := int(free[number]), split):
                    put(unit, split)
                    left[number], count = False, count - 1
            if not clean[NUMBERS[split]][label]:
                number = int(np.argmin(units.start[free + 1] - units.start[free]))
                put(int(free[number]), split)
                left[number] = False
            free = free[left]
            lacking = [other for other in lacking if other != split]
        for unit in free.tolist():
            put(unit, "train")


def complete(
    contents: Sequence[str],
    labels: Sequence[str],
    given: Sequence[str],
    *,
    val: float,
    test: float,
    seed: int,
    links: clusters.Links = (),
    keys: clusters.Keys = (),
    known: Mapping[str, str] | None = None,
) -> tuple[list[str], dict[str, str]]:
    """Keep the splits that came with the images and draw the missing ones from the others.

    Images given to training stay there, whatever they were before, where their class has enough without a split to
    draw from. What came without a split and belongs to a given validation or test image goes there with it. If it
    belongs to given images of several splits, it is left out: it would be a leak whichever way it went. Where all
    training images of a class belong to given held-out images, those leak already; the missing split is then drawn
    from them, which adds no leak of another kind.

    Args:
        given: "train", "val" or "test" for each image, or "".
        contents, labels, val, test, seed, links, keys, known: as for ``draw``.

    Returns:
        The split of each image, and for "train", "val" and "test" where it comes from: "folder" or "drawn".

    Raises:
        ValueError: as for ``draw``.
    """
    sources = {split: "folder" if split in given else "drawn" for split in ("train", *HELD_OUT)}
    missing = [split for split in HELD_OUT if sources[split] == "drawn"]
    val, test = (share if split in missing else 0.0 for split, share in (("val", val), ("test", test)))
    own = placement.images(contents, labels, links, keys)
    came, old = placement.splits(given, none=FREE), placement.before(contents, known or {})
    try:
        divided = _drawn(own, came, old, val=val, test=test, seed=seed, again=bool(known))
    except ValueError:
        if len(missing) != 1:
            raise
        divided, rest = _beside_held_out(came, own.joined())
        some = own.take(rest)
        divided[rest] = _drawn(some, came[rest], old[rest], val=val, test=test, seed=seed, again=bool(known))
    return placement.names(divided), sources


def _beside_held_out(given: Placed, whole: NDArray[np.int32]) -> tuple[Placed, NDArray[np.int64]]:
    """Return the split of each image where only held-out ones take others along, and which images are not held out."""
    held = placement.held_out(given)
    sides = np.full(len(whole), FREE, np.int8)
    sides[whole[held]] = given[held]
    divided = np.where(given == FREE, sides[whole], given)
    return divided, np.flatnonzero(~placement.held_out(divided))


def _too_few(to: _Filling, label: int, lacking: Sequence[str]) -> str:
    """Return the error message for a class that has too few images for the splits that are ``lacking`` one."""
    own = to.own.label == label
    own &= np.isin(to.placed, [FREE, *(NUMBERS[split] for split in ("train", *to.shares))])
    clean = own & ~to.for_training
    bound = {split: int((clean & (to.placed == NUMBERS[split])).sum()) for split in sorted(NUMBERS) if split}
    bound = {split: count for split, count in bound.items() if count}
    free = clean & (to.placed == FREE)
    distinct, images = len(np.unique(to.whole[free])), int(free.sum())
    shared = len(np.unique(to.whole[own & to.for_training]))
    expected = "one for each split" if not bound else f"free to go to {' and '.join(lacking)}"
    alike = f" ({images} images, of which those that are alike or of one group count once)"
    received = f"{distinct}{alike if images > distinct else ''}"
    received += f" and {shared} that other classes have too" if shared else ""
    if bound:
        kept = " and ".join(f"{count} in {split}" for split, count in bound.items())
        received += f" beside {kept}, where {'data/splits.json has' if to.again else 'given images keep'} them"
    held = np.isin(to.whole, to.whole[placement.held_out(to.placed)])
    leaking = int((clean & (to.placed == TRAIN) & held).sum())
    received += f", {leaking} in train being one picture or of one group with held-out images" if leaking else ""
    others = f", give {' and '.join(lacking)} images of its own" if leaking else ""
    others += ", or divide anew without data/splits.json" if to.again else ""
    told = f"class {to.own.labels[label]}: expected at least {len(lacking)} distinct images, {expected}, received "
    return f"{told}{received}; add images or remove the class{others}"
