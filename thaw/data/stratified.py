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
- Splits that came with the images count like old ones that nothing moves.
- Images with two labels for the same bytes go to training with all that belongs to them. If an old one of these is
  held out, they are left out instead, so that nothing is trained on that was tested on before.

Only links between old images that were not known before (another threshold, new groups) can move an old image.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from thaw.data import clusters, placement
from thaw.data.clusters import Links
from thaw.data.placement import HELD_OUT, LEFT_OUT, Unit


def draw(
    contents: Sequence[str],
    labels: Sequence[str],
    *,
    val: float,
    test: float,
    seed: int,
    links: Links = (),
    keys: Sequence[Sequence[str]] = (),
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
        given: "val" or "test" for images that stay there; "train" for those that none of these takes along; else "".
        known: the split of contents that were divided before.

    Returns:
        "train", "val" or "test" for each image, or ``LEFT_OUT``.

    Raises:
        ValueError: a class has too few units to have one in every split that is drawn.
    """
    shares = {split: share for split, share in (("test", test), ("val", val)) if share > 0}
    given = given or [""] * len(contents)
    keys = [contents, *keys]
    whole = clusters.joined(len(contents), links, keys)
    placed, sides = placement.settled(contents, whole, links, keys, given, known or {}, ("train", *shares))
    torn = clusters.conflicts(contents, labels)
    held_out = {cluster for cluster, split in zip(whole, placed, strict=True) if split in HELD_OUT}
    for_training = {whole[index] for index, content in enumerate(contents) if content in torn} - held_out
    barred = set()  # they hold their cluster together, and go nowhere
    for index, (content, cluster) in enumerate(zip(contents, whole, strict=True)):
        if cluster in for_training:
            placed[index] = "train"
        elif content in torn and placed[index] != "train" and not given[index]:
            barred.add(index)
    units = placement.units(contents, labels, links, keys, placed, sides, barred, seed)
    divided = [LEFT_OUT if index in barred else split for index, split in enumerate(placed)]
    _fill(units, labels, whole, divided, shares, for_training, again=bool(known))
    return [split or LEFT_OUT for split in divided]


def _fill(
    units: Sequence[Unit],
    labels: Sequence[str],
    whole: Sequence[int],
    divided: list[str | None],
    shares: Mapping[str, float],
    for_training: set[int],
    *,
    again: bool,
) -> None:
    """Put each unit where its classes' shares have room, and one of each class into each split, in ``divided``."""
    drawn = {index for index, split in enumerate(divided) if split in (None, "train", *shares)}
    tally = Counter((labels[index], divided[index]) for index in drawn)
    totals = Counter(labels[index] for index in drawn)
    by_label: dict[str, list[Unit]] = {label: [] for label in totals}
    for unit in units:
        for label in unit.labels:
            by_label[label].append(unit)
    clean = Counter((labels[index], divided[index]) for index in drawn if whole[index] not in for_training)

    def put(unit: Unit, split: str) -> None:
        for index in unit.images:
            divided[index] = split
        tally.update({(label, split): count for label, count in unit.labels.items()})
        clean.update({(label, split): count for label, count in unit.labels.items()})

    for label in sorted(by_label):
        free = sorted((u for u in by_label[label] if divided[u.images[0]] is None), key=lambda unit: unit.place)
        lacking = [split for split in ("train", *shares) if not clean[label, split]]
        if shares and len(free) < len(lacking):
            own = [index for index in sorted(drawn) if labels[index] == label]
            raise ValueError(_too_few(label, own, whole, divided, lacking, for_training, again=again))
        for split, share in shares.items():
            waiting = sum(other != split for other in lacking)
            taken: set[int] = set()
            for number, unit in list(enumerate(free))[:: -1 if split == "val" else 1]:
                # One with many images may be passed over; smaller ones fill the share up to half an image.
                fits = all(tally[own, split] + n <= share * totals[own] + 0.5 for own, n in unit.labels.items())
                if fits and len(free) - len(taken) > waiting:
                    put(unit, split)
                    taken.add(number)
            if not clean[label, split]:
                number = min(range(len(free)), key=lambda index: len(free[index].images))
                put(free[number], split)
                taken.add(number)
            free = [unit for number, unit in enumerate(free) if number not in taken]
            lacking = [other for other in lacking if other != split]
        for unit in free:
            put(unit, "train")


def complete(
    contents: Sequence[str],
    labels: Sequence[str],
    given: Sequence[str],
    *,
    val: float,
    test: float,
    seed: int,
    links: Links = (),
    keys: Sequence[Sequence[str]] = (),
    known: Mapping[str, str] | None = None,
) -> tuple[list[str], dict[str, str]]:
    """Keep the splits that came with the images and draw the missing ones from the others.

    What came without a split and belongs to a given validation or test image goes there with it. If it belongs to
    given images of several splits, it is left out: it would be a leak whichever way it went. Where all training images
    of a class belong to given held-out images, those leak already; the missing split is then drawn from them, which
    adds no leak of another kind.

    Args:
        given: "train", "val" or "test" for each image, or "".
        contents, labels, val, test, seed, links, keys, known: as for ``draw``.

    Returns:
        The split of each image, and for "train", "val" and "test" where it comes from: "folder" or "drawn".

    Raises:
        ValueError: as for ``draw``.
    """
    sources = {split: "folder" if split in given else "drawn" for split in ("train", *HELD_OUT)}
    drawn = [split for split in HELD_OUT if sources[split] == "drawn"]
    val, test = (share if split in drawn else 0.0 for split, share in (("val", val), ("test", test)))
    try:
        divided = draw(
            contents, labels, val=val, test=test, seed=seed, links=links, keys=keys, given=given, known=known
        )
    except ValueError:
        if len(drawn) != 1:
            raise
        divided, rest = _beside_held_out(given, clusters.joined(len(contents), links, [contents, *keys]))
        place = {index: number for number, index in enumerate(rest)}
        anew = draw(
            [contents[index] for index in rest],
            [labels[index] for index in rest],
            val=val,
            test=test,
            seed=seed,
            links=[(place[one], place[other]) for one, other in links if one in place and other in place],
            keys=[[words[index] for index in rest] for words in keys],
            given=[given[index] for index in rest],
            known=known,
        )
        for index, split in zip(rest, anew, strict=True):
            divided[index] = split
    return divided, sources


def _beside_held_out(given: Sequence[str], whole: Sequence[int]) -> tuple[list[str], list[int]]:
    """Return the split of each image where only held-out ones take others along, and which images are not held out."""
    sides = {cluster: split for cluster, split in zip(whole, given, strict=True) if split in HELD_OUT}
    divided = [split or sides.get(cluster, "") for cluster, split in zip(whole, given, strict=True)]
    return divided, [index for index, split in enumerate(divided) if split not in HELD_OUT]


def _too_few(
    label: str,
    own: Sequence[int],
    whole: Sequence[int],
    divided: Sequence[str | None],
    lacking: Sequence[str],
    for_training: set[int],
    *,
    again: bool,
) -> str:
    """Return the error message for a class that has too few images for the splits that are ``lacking`` one."""
    clean = [index for index in own if whole[index] not in for_training]
    bound = Counter(split for index in clean if (split := divided[index]))
    free = [index for index in clean if divided[index] is None]
    distinct, shared = len({whole[index] for index in free}), len({whole[index] for index in own} & for_training)
    expected = "one for each split" if not bound else f"free to go to {' and '.join(lacking)}"
    alike = f" ({len(free)} images, of which those that are alike or of one group count once)"
    received = f"{distinct}{alike if len(free) > distinct else ''}"
    received += f" and {shared} that other classes have too" if shared else ""
    if bound:
        kept = " and ".join(f"{count} in {split}" for split, count in sorted(bound.items()))
        received += f" beside {kept}, where {'data/splits.json has' if again else 'given images keep'} them"
    held = {whole[index] for index, split in enumerate(divided) if split in HELD_OUT}
    leaking = sum(divided[index] == "train" and whole[index] in held for index in clean)
    received += f", {leaking} in train being one picture or of one group with held-out images" if leaking else ""
    others = f", give {' and '.join(lacking)} images of its own" if leaking else ""
    others += ", or divide anew without data/splits.json" if again else ""
    told = f"class {label}: expected at least {len(lacking)} distinct images, {expected}, received {received}"
    return f"{told}; add images or remove the class{others}"
