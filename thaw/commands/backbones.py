"""What ``python -m thaw.backbone`` prints: the table of networks, without TensorFlow, or the blocks of one."""

import json
import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

from thaw import paths, pipes
from thaw.catalog import backbones
from thaw.config import load

USAGE = "usage: python -m thaw.backbone [NAME [SIZE]]"
HELP = f"""{USAGE}

Without a name it prints the table of networks; with one the network's blocks, which phase2.unfreeze can name, at SIZE
pixels or at the size that it was pretrained at. {", ".join(backbones.FOREIGN)} are built as {paths.PARAMS} says."""


@pipes.reader_may_leave()
def main(arguments: Sequence[str], *, as_json: bool = False) -> None:
    """Print the table's rows or, given a name, its blocks: what ``phase2.unfreeze`` can be and what it costs.

    Args:
        arguments: nothing, or a name and perhaps the size of the input in pixels.
        as_json: print the list of ``table`` or ``blocks``.

    Raises:
        ValueError: they are others, or no network can be built from them.
    """
    name, size, *more = [*arguments, "", ""][: max(2, len(arguments))]
    if {"-h", "--help"} & set(arguments):
        print(HELP)
    elif more or (size and not size.isdecimal()):
        raise ValueError(f"expected a name and perhaps a size in pixels, received {' '.join(arguments)!r}; {USAGE}")
    elif as_json:
        found = blocks(name, int(size) if size else None) if name else table()
        print(json.dumps(list(found), indent=2))
    elif name:
        _print_blocks(name, int(size) if size else None)
    else:
        _print_table()


def table() -> Iterator[dict[str, Any]]:
    """Yield what the table says of each network."""
    for name, row in backbones.ROWS.items():
        yield {
            "name": name,
            "size": row.size,
            "smallest": row.smallest,
            "parameters": row.parameters,
            "pixels": row.pixels,
            "weights": row.published,
        }


def _print_table() -> None:
    print(f"{'name':22} {'size':>7} {'smallest':>8} {'parameters':>11} {'pixels':>9}   weights")
    for row in table():
        print(
            "{name:22} {size:4} px {smallest:5} px {parameters:11,} {pixels:>9}   {weights}, ".format(**row)
            + "random or a .weights.h5 file"
        )
    print(f"{', '.join(backbones.FOREIGN)}: from outside the table; `thaw explain backbone` says how to name them")


def blocks(name: str, size: int | None) -> Iterator[dict[str, Any]]:
    """Yield what is known of each block of a network, from the input on.

    Args:
        name: of the network.
        size: of its input in pixels; None: as it was pretrained.

    Raises:
        ValueError: there is no such network.
    """
    from thaw.networks import freeze_boundaries, graph  # noqa: PLC0415 -- seconds, for TensorFlow

    model = _network(name, size)
    _, outputs = graph.producers(model)
    for cut, following in pairwise(freeze_boundaries.every(model)):
        layers = model.layers[1 + cut.frozen_layers : 1 + following.frozen_layers]
        yield {
            "block": cut.block,
            "layers": len(layers),
            "layers_from_here": cut.thawed_layers,
            "parameters": sum(layer.count_params() for layer in layers),
            "computation": cut.share - following.share,
            "computation_from_here": cut.share,
            "enters_as": list(outputs[cut.tensor_layer].shape[1:]),
        }


def _print_blocks(name: str, size: int | None) -> None:
    found = list(blocks(name, size))
    print(
        f"{'block':22} {'layers':>6} {'from here':>9} {'parameters':>11} {'computation':>11} {'from here':>9}   "
        f"{'enters as':>15} {'KB fp16':>8}"
    )
    for each in found:
        shape = each["enters_as"]
        print(
            f"{each['block']:22} {each['layers']:6} {each['layers_from_here']:9} {each['parameters']:11,} "
            f"{each['computation']:11.1%} {each['computation_from_here']:9.1%}   "
            f"{' x '.join(map(str, shape)):>15} {2 * math.prod(shape) / 1000:8.1f}"
        )


def _network(name: str, size: int | None) -> Any:
    """Return the Keras network with any weights, or with none: only its shape is looked at."""
    from thaw.networks import external, pretrained  # noqa: PLC0415 -- seconds, for TensorFlow
    from thaw.runtime.framework import keras  # noqa: PLC0415

    if name in backbones.FOREIGN:
        settings, _ = load.read()
        described = settings.backbone
        if described.name != name:
            raise ValueError(
                f"backbone.name: expected {name} in {paths.PARAMS}, which is to say how it is built, received "
                f"{described.name}; compile it with: python -m thaw.config backbone={name} …"
            )
        size = settings.image.size if size is None else size
        return external.build(name, described.weights, size, described.builder, described.pixels, pretrained=False)
    row = backbones.row(name)
    size = row.size if size is None else size
    with keras.StatelessScope(initialize_variables=False):  # 348 million weights take a while to draw
        return pretrained.graph(name, size)
