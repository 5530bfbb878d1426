"""The places where a backbone may be cut into a frozen and a thawed part, and the cut itself.

A cut lies between two blocks, where a single tensor carries all that the rest of the network needs. Inside a residual
block a second tensor, the shortcut, is on its way, so a block is thawed or frozen as a whole.
"""

import re
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from thaw import backbone
from thaw.framework import keras


@dataclass(frozen=True)
class Boundary:
    """A cut through the network: all layers before it are frozen, all behind it thawed. The input is no layer here."""

    block: str  # the first thawed block; empty: none
    tensor_layer: str  # the layer whose output crosses the cut; the input's where all is thawed
    thawed_layers: int
    frozen_layers: int
    snapped: bool  # another number of layers was asked for
    requested: str

    def describe(self) -> str:
        """One line for users."""
        total = self.thawed_layers + self.frozen_layers
        where = f"from {self.block} on" if self.block else "the backbone stays frozen"
        if self.snapped:
            return f"{self.requested} layers asked, {self.thawed_layers} thawed: {where}"
        return f"{self.thawed_layers} of {total} layers thawed: {where}"


def producers(model: keras.Model) -> tuple[dict[str, set[str]], dict[str, Any]]:
    """For each layer, by name, the layers that feed it, and its output tensor.

    Found from the output backwards: a layer that ``split`` has shared also has nodes in other models, so its own list
    of nodes would mix them up.
    """
    feeds: dict[str, set[str]] = {}
    outputs: dict[str, Any] = {}
    waiting = [model.output]
    while waiting:
        tensor = waiting.pop()
        layer, node, _ = tensor._keras_history
        if layer.name not in feeds:
            arguments = layer._inbound_nodes[node].input_tensors
            feeds[layer.name] = {argument._keras_history.operation.name for argument in arguments}
            outputs[layer.name] = tensor
            waiting.extend(arguments)
    return feeds, outputs


def _block_of(layer: str, family: backbone.Family) -> str:
    for pattern, name in family.blocks:
        match = re.match(pattern, layer)
        if match:
            return match.expand(name)
    raise ValueError(f"{layer}: expected a layer that a pattern of the backbone's blocks matches, received none")


def every(model: keras.Model) -> list[Boundary]:
    """Every cut between blocks, from the input (all thawed) to the output (none thawed).

    Args:
        model: from ``backbone.build``; its name chooses the row with the patterns of block names.

    Raises:
        ValueError: more than one tensor crosses from a block to the next, or a block is in two pieces.
    """
    family = backbone.family(model.name)
    feeds, _ = producers(model)
    order = [layer.name for layer in model.layers if layer.name in feeds]  # Keras keeps them in topological order
    place = {name: index for index, name in enumerate(order)}
    blocks = ["", *(_block_of(name, family) for name in order[1:]), ""]

    found: list[Boundary] = []
    for first in range(1, len(blocks)):
        if blocks[first] == blocks[first - 1]:
            continue
        crossing = {feed for name in order[first:] for feed in feeds[name] if place[feed] < first}
        crossing |= {order[-1]} if first == len(order) else set()
        if len(crossing) > 1 or blocks[first] in [cut.block for cut in found]:
            raise ValueError(
                f"{model.name}: expected one place and one tensor into the block {blocks[first]!r}, "
                f"received {sorted(crossing)}; correct the row's patterns of block names"
            )
        found.append(
            Boundary(blocks[first], crossing.pop(), len(order) - first, first - 1, False, blocks[first] or "none")
        )
    return found


def find(model: keras.Model, unfreeze: str) -> Boundary:
    """The cut that ``phase2.unfreeze`` means.

    Args:
        model: from ``backbone.build``.
        unfreeze: a number of layers counted from the output, as Keras lists them: the nearest cut that thaws
            something, of two equally near the one that thaws less; or a block's name: that block and all behind it;
            or ``none`` or ``all``.
    """
    cuts = every(model)
    total = cuts[0].thawed_layers
    if unfreeze in ("all", "none"):
        cut, snapped = (cuts[0] if unfreeze == "all" else cuts[-1]), False
    elif unfreeze.isdecimal() and 1 <= int(unfreeze) <= total:
        count = int(unfreeze)
        cut = min(cuts[:-1], key=lambda cut: (abs(cut.thawed_layers - count), cut.thawed_layers))
        snapped = cut.thawed_layers != count
    else:
        named = [cut for cut in cuts[:-1] if cut.block == unfreeze]
        if not named:
            raise ValueError(
                f"phase2.unfreeze: expected 1 to {total} layers, none, all or one of {model.name}'s blocks "
                f"({', '.join(cut.block for cut in cuts[:-1])}), received {unfreeze!r}"
            )
        cut, snapped = named[0], False
    return replace(cut, snapped=snapped, requested=unfreeze)


def split(model: keras.Model, boundary: Boundary) -> tuple[keras.Model, keras.Model]:
    """Cut the model in two that share its layers and variables.

    Returns:
        ``(frozen, thawed)``: pixels → the tensor at the cut, and that tensor → features. One after the other they are
        the model. Where all or nothing is thawed, one of them hands its input on unchanged.
    """
    _, outputs = producers(model)
    cut = outputs[boundary.tensor_layer]
    frozen = keras.Model(model.input, cut, name=f"{model.name}_frozen")
    # Keras makes no model from a layer's output to itself, so nothing thawed is a model of an input alone.
    ends = (
        (cut, model.output) if boundary.thawed_layers else (keras.Input(batch_shape=cut.shape, dtype=cut.dtype),) * 2
    )
    return frozen, keras.Model(*ends, name=f"{model.name}_thawed")


def depths(model: keras.Model) -> dict[str, int]:
    """How many blocks from the top each of the network's variables lies, by path; in the last block it is 1."""
    cuts = every(model)
    return {
        variable.path: len(cuts) - 1 - number
        for number, (cut, following) in enumerate(pairwise(cuts))
        for layer in model.layers[1 + cut.frozen_layers : 1 + following.frozen_layers]
        for variable in layer.variables
    }
