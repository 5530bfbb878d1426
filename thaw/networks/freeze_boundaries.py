"""Freeze boundaries: where a backbone may be cut into a frozen and an unfrozen part, and the cut itself.

A cut lies where a single tensor carries all that the rest of the network needs: everything behind it depends on that
tensor, and on nothing else from before. Inside a residual block a second tensor, the shortcut, is on its way, so a
block is unfrozen or frozen as a whole. These places are found from the wiring. Of several between two blocks, as after
each layer of a plain chain, the last before the first layer that bears the second block's name is the boundary. Where
no names tell blocks, the graph does: a block begins where the tensor goes several ways, or at a layer with a kernel.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate, pairwise

from thaw import console
from thaw.catalog import backbones
from thaw.config.unfreeze import Kind, UnfreezeSpec
from thaw.networks import cost, graph
from thaw.runtime.framework import keras

# How blocks are usually called, for networks that are no row of the table: the first that finds two or more.
USUAL_NAMES = (
    r".*?((?:stage|stack|group|conv)_?\d+_(?:block|unit|layer)_?\d+[a-z]?)(?![0-9a-z])",
    r".*?((?:block|layer|mixed|encoder_layer|transformer_layer)_?\d+[a-z]?)(?![0-9a-z])",
)
_PART = "part_"


@dataclass(frozen=True)
class Boundary:
    """A freeze boundary: all layers before it are frozen, all behind it unfrozen. The input is no layer here."""

    block: str  # the first unfrozen block; empty: none
    tensor_layer: str  # the layer whose output crosses the cut; the input's where all is unfrozen
    thawed_layers: int
    frozen_layers: int
    share: float  # of the multiplications of a forward pass that lie behind the cut, 0 to 1
    snapped: bool  # another number of layers, or another share, was asked for
    requested: UnfreezeSpec
    variables: str = ""  # a pattern: of all that is behind the cut, only variables of such a path are trained
    reason: str = ""  # for what was requested, where ``auto`` has chosen it

    def describe(self) -> str:
        """Return one line for users and for the records."""
        return "; ".join(filter(None, (self.reason, self._cut())))

    def _cut(self) -> str:
        total = self.thawed_layers + self.frozen_layers
        where = f"from {self.block} on" if self.block else "the backbone stays frozen"
        if self.variables:
            return f"variables with {self.variables} unfrozen, which may be anywhere: all layers run in every epoch"
        if self.requested.kind is Kind.SHARE:
            return f"{self.requested} of the computation asked, {self.share:.0%} unfrozen: {where}"
        if self.snapped:
            return f"{self.requested} layers asked, {self.thawed_layers} unfrozen: {where}"
        return f"{self.thawed_layers} of {total} layers unfrozen: {where}"


def _named(names: Sequence[str], cuts: Sequence[int], patterns: Sequence[tuple[str, str]]) -> dict[int, str]:
    """Return the cut before each block that ``patterns`` find in the names, and the block.

    Raises:
        ValueError: no single tensor goes into a block, or a block is in two pieces.
    """
    blocks: dict[str, list[int]] = {}
    for index, name in enumerate(names[1:], start=1):
        found = next((match.expand(label) for pattern, label in patterns if (match := re.match(pattern, name))), None)
        if found or index == 1:
            blocks.setdefault(found or "stem", []).append(index)
    starts: dict[int, str] = {}
    end = 0  # the last layer of the blocks before
    for block, places in blocks.items():
        possible = [cut for cut in cuts if end <= cut < places[0]]
        if not possible:
            raise ValueError(
                f"expected one place and one tensor into the block {block!r}, received none between {names[end]} and "
                f"{names[places[0]]}"
            )
        starts[possible[-1]] = block
        end = places[-1]
    return starts


def _unnamed(
    names: Sequence[str], costs: Sequence[int], cuts: Sequence[int], feeds: dict[str, set[str]]
) -> dict[int, str]:
    """Return blocks by the graph alone: ``part_1``, ``part_2`` …"""
    ways = Counter(feed for fed in feeds.values() for feed in fed)
    starts = [cut for cut in cuts[:-1] if cut == 0 or ways[names[cut]] > 1 or costs[cut + 1]]
    return {cut: f"{_PART}{number}" for number, cut in enumerate(starts, start=1)}


def _blocks(
    model: keras.Model, names: Sequence[str], costs: Sequence[int], feeds: dict[str, set[str]], forked: set[str]
) -> dict[int, str]:
    """Return the cut before each block that computes something, and its name; a lone norm is the last block's."""
    cuts = graph.cuts(names, feeds, forked)
    if model.name in backbones.ROWS:
        try:
            starts = _named(names, cuts, backbones.ROWS[model.name].blocks)
        except ValueError as error:
            raise ValueError(f"{model.name}: {error}; correct the row's patterns of block names") from error
    else:
        starts = _usual(names, cuts) or _unnamed(names, costs, cuts, feeds)
    kept: dict[int, str] = {}
    waiting: int | None = None  # the start of a block that computes nothing, and is part of the next
    for cut, following in pairwise([*starts, len(names) - 1]):
        if any(costs[cut + 1 : following + 1]):
            kept[cut if waiting is None else waiting] = starts[cut]
            waiting = None
        elif not kept:
            waiting = cut if waiting is None else waiting
    if all(block.startswith(_PART) for block in kept.values()):
        kept = {cut: f"{_PART}{number}" for number, cut in enumerate(kept, start=1)}
    return kept or {0: f"{_PART}1"}


def _usual(names: Sequence[str], cuts: Sequence[int]) -> dict[int, str]:
    for pattern in USUAL_NAMES:
        try:
            starts = _named(names, cuts, [(pattern, r"\1")])
        except ValueError:
            continue
        if len(starts) > 2:
            return starts
    return {}


def every(model: keras.Model) -> list[Boundary]:
    """Return every cut between blocks, from the input (all unfrozen) to the output (none unfrozen).

    Args:
        model: from ``pretrained.build``; its name chooses the row with the patterns of block names.

    Raises:
        ValueError: the row's patterns don't tell blocks between which a single tensor goes.
    """
    feeds, outputs = graph.producers(model)
    order = graph.order(model, feeds)
    costs = [cost.multiplications(operation, outputs[operation.name].shape) for operation in order]
    starts = _blocks(model, [operation.name for operation in order], costs, feeds, graph.forked(outputs))
    layers = [0, *accumulate(isinstance(operation, keras.layers.Layer) for operation in order[1:])]
    before, total = list(accumulate(costs)), max(sum(costs), 1)
    return [
        Boundary(
            block,
            order[cut].name,
            layers[-1] - layers[cut],
            layers[cut],
            1 - before[cut] / total,
            False,
            UnfreezeSpec(block, Kind.BLOCK, name=block) if block else UnfreezeSpec.parse("none"),
        )
        for cut, block in [*starts.items(), (len(order) - 1, "")]
    ]


def find(model: keras.Model, unfreeze: UnfreezeSpec, *, told: bool = True) -> Boundary:
    """Return the cut that ``phase2.unfreeze`` means in a network.

    Args:
        model: from ``pretrained.build``.
        unfreeze: of a number of layers, counted as Keras lists them, and of a share of the multiplications the
            nearest cut that unfreezes something, of two equally near the one that unfreezes less. ``auto`` is
            ``thaw.features.auto_unfreeze``'s to turn into a share.
        told: whether someone is warned who gets more than twice what was asked for.

    Raises:
        ValueError: the network has no such block, or not so many layers or blocks; or it is ``auto``.
    """
    cuts = every(model)
    cut = _meant(cuts, unfreeze)
    if cut is None:
        raise ValueError(
            f"phase2.unfreeze: expected 1 to {cuts[0].thawed_layers} layers, 1blocks to {len(cuts) - 1}blocks, a "
            f"share (30%), none, all, auto or one of {model.name}'s blocks "
            f"({', '.join(cut.block for cut in cuts[:-1])}), received {unfreeze.text!r}"
        )
    given = {Kind.LAYERS: cut.thawed_layers, Kind.SHARE: cut.share}.get(unfreeze.kind, unfreeze.number)
    found = replace(cut, snapped=given != unfreeze.number, requested=unfreeze)
    if told and given > 2 * unfreeze.number:
        _warn(f"phase2.unfreeze: {found.describe()}, more than twice as much; {model.name} has no cut that is nearer")
    return found


def _meant(cuts: Sequence[Boundary], unfreeze: UnfreezeSpec) -> Boundary | None:
    """Return the cut that is meant, of a network's cuts from the input to the output; None if it has no such cut."""
    some, number, found = cuts[:-1], unfreeze.number, None  # some: that unfreeze something
    match unfreeze.kind:
        case Kind.ALL:
            found = cuts[0]
        case Kind.NONE:
            found = cuts[-1]
        case Kind.VARIABLES:
            found = replace(cuts[0], variables=unfreeze.name)
        case Kind.LAYERS if number <= cuts[0].thawed_layers:
            found = min(some, key=lambda cut: (abs(cut.thawed_layers - number), cut.thawed_layers))
        case Kind.SHARE:
            found = min(some, key=lambda cut: (abs(cut.share - number), cut.share))
        case Kind.BLOCKS if number <= len(some):
            found = cuts[-1 - int(number)]
        case Kind.BLOCK:
            found = next((cut for cut in some if cut.block == unfreeze.name), None)
    return found


@cache  # both phases look for the same cut, and one of them may look twice
def _warn(text: str) -> None:
    console.warn(text)


def split(model: keras.Model, boundary: Boundary) -> tuple[keras.Model, keras.Model]:
    """Cut the model in two that share its layers and variables.

    Returns:
        ``(frozen, unfrozen)``: pixels → the tensor at the cut, and that tensor → features. One after the other they
        are the model. Where all or nothing is unfrozen, one of them hands its input on unchanged.
    """
    _, outputs = graph.producers(model)
    cut = outputs[boundary.tensor_layer]
    frozen = keras.Model(model.input, cut, name=f"{model.name}_frozen")
    # Keras makes no model from a layer's output to itself, so nothing unfrozen is a model of an input alone.
    ends = (
        (cut, model.output) if boundary.thawed_layers else (keras.Input(batch_shape=cut.shape, dtype=cut.dtype),) * 2
    )
    return frozen, keras.Model(*ends, name=f"{model.name}_thawed")


def depths(model: keras.Model) -> dict[str, int]:
    """Return how many blocks from the top each of the network's variables lies, by path; in the last block it is 1."""
    cuts = every(model)
    return {
        variable.path: len(cuts) - 1 - number
        for number, (cut, following) in enumerate(pairwise(cuts))
        for layer in model.layers[1 + cut.frozen_layers : 1 + following.frozen_layers]
        for variable in layer.variables
    }
