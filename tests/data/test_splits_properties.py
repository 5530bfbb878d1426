"""The division held for any images: hypothesis makes up contents, labels, links, groups, given and known splits."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from thaw import paths
from thaw.config import schema
from thaw.data import clusters, fingerprints, placement, split_memory, splits, stratified, units
from thaw.data.samples import Sample

ROOT = Path(__file__).resolve().parents[2]
SHARES = st.tuples(st.floats(0.01, 0.5), st.floats(0.01, 0.5)).filter(lambda shares: sum(shares) <= 0.9)


def content(number: int) -> str:
    return hashlib.sha256(f"{number}".encode()).hexdigest()


@dataclass
class Case:
    """What ``stratified.complete`` is told of some images."""

    contents: list[str]
    labels: list[str]
    links: list[tuple[int, int]]
    groups: list[str]
    given: list[str]
    known: dict[str, str]
    shares: tuple[float, float]
    seed: int

    def divide(self, order: Sequence[int] | None = None) -> list[str]:
        """Return the split of each image in the order that is kept here, or else assume that they are enough."""
        order = range(len(self.contents)) if order is None else order
        place = {index: number for number, index in enumerate(order)}
        try:
            divided, _ = stratified.complete(
                [self.contents[index] for index in order],
                [self.labels[index] for index in order],
                [self.given[index] for index in order],
                val=self.shares[0],
                test=self.shares[1],
                seed=self.seed,
                links=[(place[one], place[other]) for one, other in self.links],
                keys=[[self.groups[index] for index in order]],
                known=self.known,
            )
        except ValueError as error:
            assert str(error).startswith("class ") and "\n" not in str(error)
            assume(False)
            raise
        return [divided[place[index]] for index in range(len(self.contents))]


@st.composite
def cases(draw: st.DrawFn, *, marked: bool) -> Case:
    """Draw images of a few classes, some of them copies, linked, or of one group.

    Args:
        marked: some have a given or a remembered split.
    """
    count = draw(st.integers(6, 40))

    def each(*common: str, rare: Sequence[str] = ()) -> list[str]:
        words = st.sampled_from([*common * 8, *rare])
        return draw(st.lists(words, min_size=count, max_size=count))

    # Most contents are there once. A copy may have another label.
    numbers = [draw(st.integers(0, index)) if draw(st.integers(0, 9)) == 0 else index for index in range(count)]
    place = st.integers(0, count - 1)
    links = draw(st.lists(st.tuples(place, place).filter(lambda pair: pair[0] != pair[1]), max_size=6))
    groups = each("", rare=("p", "q", "r"))
    given = each("", rare=("train", "val", "test")) if marked else [""] * count
    contents = [content(number) for number in numbers]
    old = each("", rare=("train", "train", "val", "test")) if marked else []
    known = {one: split for one, split in zip(contents, old, strict=False) if split}
    labels = each("cat", "dog") if draw(st.booleans()) else ["cat"] * count
    return Case(contents, labels, links, groups, given, known, draw(SHARES), draw(st.integers(0, 5)))


@given(cases(marked=False))
def test_no_unit_is_torn_and_each_image_has_a_split(case: Case) -> None:
    divided = case.divide()
    assert set(divided) <= {"train", "val", "test"}
    units = clusters.joined(len(divided), case.links, [case.contents, case.groups]).tolist()
    assert len(set(zip(units, divided, strict=True))) == len(set(units))
    for label in set(case.labels):
        assert {split for split, own in zip(divided, case.labels, strict=True) if own == label} == {
            "train",
            "val",
            "test",
        }


@given(cases(marked=True))
def test_what_was_given_stays_and_nothing_else_is_torn(case: Case) -> None:
    divided = case.divide()
    whole = clusters.joined(len(divided), case.links, [case.contents, case.groups])
    old = [split or case.known.get(content, "") for split, content in zip(case.given, case.contents, strict=True)]
    for split, own, unit in zip(case.given, divided, whole, strict=True):
        assert own == split or split in ("", "train")
        # Where old images of several splits hang together, what would join them is left out, of "train" too.
        assert own or not split or len({was for was, of in zip(old, whole, strict=True) if of == unit and was}) > 1
    # Units are what hangs together by way of images that have a split; a person may have held a part of one out.
    placed = [bool(split) for split in divided]
    units = clusters.joined(len(divided), case.links, [case.contents, case.groups], placed)
    for unit in set(units):
        members = [index for index, own in enumerate(units) if own == unit]
        if not {case.given[index] for index in members} & {"val", "test"}:
            assert len({divided[index] for index in members}) == 1


def test_what_joins_old_images_of_two_splits_is_left_out_unless_one_is_given_to_training() -> None:
    contents = [content(number) for number in (0, 1, 2, 1, *range(4, 18))]
    known = {contents[0]: "train", contents[2]: "val"}
    for own, expected in (("", ["train", "", "val", ""]), ("train", ["train"] * 4)):
        given = ["", "", "", own, *[""] * 14]
        case = Case(contents, ["cat"] * 18, [(0, 1), (1, 2)], [""] * 18, given, known, (0.5, 0.25), 0)
        assert case.divide()[:4] == expected


@given(cases(marked=True), st.integers(0, 39))
def test_what_was_given_to_training_stays_where_each_class_has_others_to_draw_from(case: Case, place: int) -> None:
    count = len(case.contents)
    more = range(100, 108)  # each on its own
    labels = [*case.labels, *["cat", "dog"] * 4]
    given = [*case.given, *[""] * 8]
    given[place % count] = "train"
    contents = [*case.contents, *map(content, more)]
    divided = replace(case, contents=contents, labels=labels, given=given, groups=[*case.groups, *[""] * 8]).divide()
    assert all(own == "train" for own, split in zip(divided, given, strict=True) if split == "train")


@given(cases(marked=True), st.randoms(use_true_random=False))
def test_the_order_of_the_images_decides_nothing(case: Case, chance: np.random.Generator) -> None:
    order = list(range(len(case.contents)))
    chance.shuffle(order)
    assert case.divide() == case.divide(order)


@given(st.dictionaries(st.sampled_from(["cat", "dog", "owl"]), st.integers(3, 90), min_size=1), SHARES, st.integers(0))
def test_images_on_their_own_are_divided_to_half_an_image(
    sizes: dict[str, int], shares: tuple[float, float], seed: int
) -> None:
    labels = [label for label, count in sizes.items() for _ in range(count)]
    contents = [content(number) for number in range(len(labels))]
    divided = stratified.draw(contents, labels, val=shares[0], test=shares[1], seed=seed)
    cells = Counter(zip(labels, divided, strict=True))
    for label, count in sizes.items():
        for split, share in zip(("val", "test"), shares, strict=True):
            held = cells[label, split]
            assert held <= share * count + 0.5 or held == 1
            assert held >= share * count - 0.5 or cells[label, "train"] == 1
        assert cells[label, "train"] > 0


@cache
def fingerprint(picture: int) -> str:
    pixels = np.random.default_rng(picture).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    return fingerprints.fingerprint(Image.fromarray(pixels))


@cache
def settings() -> schema.Data:
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["data"]
    return schema.Data(**values | {"val": 0.2, "test": 0.2})


POOL = 30  # images that come and go


@given(
    pictures=st.lists(st.integers(0, POOL - 1), min_size=POOL, max_size=POOL),
    groups=st.lists(st.sampled_from(["", "", "", "p", "q"]), min_size=POOL, max_size=POOL),
    labels=st.lists(st.sampled_from(["cat", "dog"]), min_size=POOL, max_size=POOL),
    days=st.lists(st.sets(st.integers(0, POOL - 1), min_size=8), min_size=2, max_size=5),
)
def test_images_that_come_and_go_keep_their_split(
    tmp_path_factory: pytest.TempPathFactory,
    pictures: list[int],
    groups: list[str],
    labels: list[str],
    days: list[set[int]],
) -> None:
    pool = [
        Sample(f"{n}.png", content(n), labels[n], "", 32, 32, fingerprint(pictures[n]), groups[n]) for n in range(POOL)
    ]
    data, kept = settings(), dict[str, str]()
    with pytest.MonkeyPatch.context() as here:
        here.chdir(tmp_path_factory.mktemp("project"))
        for day in days:
            found = [replace(pool[index]) for index in sorted(day)]
            known = splits.remembered(data)
            assert known == kept
            try:
                division = splits.divide(found, data, known)
            except ValueError as error:
                assert "class " in str(error) and "\n" not in str(error)
                continue
            splits.write(found, division, data)
            before = [known.get(sample.sha256[: split_memory.HEX]) for sample in found]
            for unit in set(division.units):
                members = [index for index, own in enumerate(division.units) if own == unit]
                old = {before[index] for index in members} - {None}
                now = {division.splits[index] for index in members} - {placement.LEFT_OUT}
                assert len(now) == 1 or len(old) > 1, "only what turns out to be one too late is not whole"
                if len(old) == 1:
                    assert now == old
            # Each leaked image is listed once: with what it turned out to belong to, by way of one that is left out.
            assert set(division.leaks.kinds) <= {"linked"}
            assert len(division.leaks.kinds) == sum(units.leaks(division.units, division.splits).values())
            placed = zip(found, division.splits, strict=True)
            kept |= {sample.sha256[: split_memory.HEX]: split for sample, split in placed if split}
            assert paths.MEMORY.exists()


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[tuple[int, int]], list[str], list[bool]]:
    count = draw(st.integers(1, 20))
    place = st.integers(0, count - 1)
    words = st.lists(st.sampled_from(["", "a", "b", "c", "d"]), min_size=count, max_size=count)
    among = st.lists(st.booleans(), min_size=count, max_size=count)
    return draw(st.lists(st.tuples(place, place), max_size=20)), draw(words), draw(among)


@given(graphs(), st.booleans())
def test_clusters_are_the_components_of_a_graph(
    graph: tuple[list[tuple[int, int]], list[str], list[bool]], some: bool
) -> None:
    links, words, among = graph
    among = among if some else [True] * len(words)
    count = len(words)
    edges = [(one, other) for one, other in links if among[one] and among[other]]
    edges += [
        (one, other)
        for one in range(count)
        for other in range(one)
        if words[one] == words[other] != "" and among[one] and among[other]
    ]
    matrix = coo_array((np.ones(len(edges)), tuple(np.array(edges, int).reshape(-1, 2).T)), (count, count))
    components = connected_components(matrix, directed=False)[1].tolist()
    expected = [components.index(component) for component in components]
    assert clusters.joined(count, links, [words], among if some else None).tolist() == expected
