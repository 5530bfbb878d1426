"""``python -m thaw.backbone``: print the table of networks, or the blocks of one.

It is no part of ``thaw.networks.pretrained``, since blocks are what ``thaw.networks.freeze_boundaries`` finds, which
imports that.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from thaw import paths, pipes
from thaw.config import backbone, load
from thaw.networks import external, freeze_boundaries, graph, pretrained
from thaw.runtime.framework import keras

USAGE = "usage: python -m thaw.backbone [NAME [SIZE]]"
HELP = f"""{USAGE}

Without a name it prints the table of networks; with one the network's blocks, which phase2.unfreeze can name, at SIZE
pixels or at the size that it was pretrained at. {", ".join(backbone.FOREIGN)} are built as {paths.PARAMS} says."""


@pipes.reader_may_leave()
def main(arguments: Sequence[str]) -> None:
    """Print the table's rows or, given a name, its blocks: what ``phase2.unfreeze`` can be and what it costs.

    Args:
        arguments: nothing, or a name and perhaps the size of the input in pixels.

    Raises:
        ValueError: they are others, or no network can be built from them.
    """
    name, size, *more = [*arguments, "", ""][: max(2, len(arguments))]
    if {"-h", "--help"} & set(arguments):
        print(HELP)
    elif more or (size and not size.isdecimal()):
        raise ValueError(f"expected a name and perhaps a size in pixels, received {' '.join(arguments)!r}; {USAGE}")
    elif name:
        _print_blocks(_network(name, int(size) if size else None))
    else:
        _print_table()


def _print_table() -> None:
    print(f"{'name':22} {'size':>7} {'smallest':>8} {'parameters':>11} {'pixels':>9}   weights")
    for name, row in pretrained.TABLE.items():
        words = ", ".join((*row.sources, "random"))
        print(
            f"{name:22} {row.size:4} px {row.smallest:5} px {row.parameters:11,} {row.pixels:>9}   "
            f"{words} or a .weights.h5 file"
        )
    print(f"{', '.join(backbone.FOREIGN)}: networks from outside the table, see docs/backbones.md")


def _network(name: str, size: int | None) -> keras.Model:
    """Return the network with any weights, or with none: only its shape is looked at."""
    if name in backbone.FOREIGN:
        settings = load.check(load.read())
        described = settings.backbone
        if described.name != name:
            raise ValueError(
                f"backbone.name: expected {name} in {paths.PARAMS}, which is to say how it is built, received "
                f"{described.name}; compile it with: python -m thaw.config backbone={name} …"
            )
        size = settings.image.size if size is None else size
        return external.build(name, described.weights, size, described.builder, described.pixels, pretrained=False)
    row = pretrained.family(name)
    size = row.size if size is None else size
    pretrained.check_size(name, size)
    with keras.StatelessScope(initialize_variables=False):  # 348 million weights take a while to draw
        return row.graph(name, size)


def _print_blocks(model: keras.Model) -> None:
    _, outputs = graph.producers(model)
    print(
        f"{'block':22} {'layers':>6} {'from here':>9} {'parameters':>11} {'computation':>11} {'from here':>9}   "
        f"{'enters as':>15} {'KB fp16':>8}"
    )
    for cut, following in pairwise(freeze_boundaries.every(model)):
        layers = model.layers[1 + cut.frozen_layers : 1 + following.frozen_layers]
        parameters = sum(layer.count_params() for layer in layers)
        shape = outputs[cut.tensor_layer].shape[1:]
        print(
            f"{cut.block:22} {len(layers):6} {cut.thawed_layers:9} {parameters:11,} "
            f"{cut.share - following.share:11.1%} {cut.share:9.1%}   "
            f"{' x '.join(map(str, shape)):>15} {2 * math.prod(shape) / 1000:8.1f}"
        )
