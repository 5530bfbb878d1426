"""Follow how a network's layers are wired: what feeds what, where it can be cut, and its layers on another tensor."""

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from thaw.runtime.framework import keras


def producers(model: keras.Model) -> tuple[dict[str, set[str]], dict[str, Any]]:
    """Return for each layer or other operation, by name, those that feed it, and its output tensor.

    Found from the output backwards: a layer that ``split`` has shared also has nodes in other models, so its own list
    of nodes would mix them up.
    """
    feeds: dict[str, set[str]] = {}
    outputs: dict[str, Any] = {}
    waiting = [model.output]
    while waiting:
        tensor = waiting.pop()
        operation, node, _ = tensor._keras_history
        if operation.name not in feeds:
            arguments = operation._inbound_nodes[node].input_tensors
            feeds[operation.name] = {argument._keras_history.operation.name for argument in arguments}
            outputs[operation.name] = tensor
            waiting.extend(arguments)
    return feeds, outputs


def forked(outputs: dict[str, Any]) -> set[str]:
    """Return those of which several outputs go on, as of a layer that splits a tensor in two.

    Args:
        outputs: of ``producers``.
    """
    used: dict[str, set[int]] = {}
    for tensor in outputs.values():
        operation, node, _ = tensor._keras_history
        for argument in operation._inbound_nodes[node].input_tensors:
            feed, _, index = argument._keras_history
            used.setdefault(feed.name, set()).add(index)
    return {name for name, indices in used.items() if len(indices) > 1}


def order(model: keras.Model, feeds: dict[str, set[str]]) -> list[Any]:
    """Return the operations as Keras sorts them, by their distance from the output: what feeds another stands before
    it.

    So all that a cut's tensor depends on stands before that tensor, and all that depends on it behind.
    """
    return [operation for operation in model.operations if operation.name in feeds]


def cuts(names: Sequence[str], feeds: dict[str, set[str]], several: set[str]) -> list[int]:
    """Return the places in ``names`` whose output is all that goes on from there, the input's and the last one's among
    them.

    Args:
        several: what has more than one output that goes on, so that no tensor of it is all.
    """
    place = {name: index for index, name in enumerate(names)}
    reach = list(range(len(names)))  # where each output is needed last
    for name in names:
        for feed in feeds[name]:
            reach[place[feed]] = max(reach[place[feed]], place[name])
    before = accumulate(reach, max, initial=0)
    return [
        index
        for index, (name, needed) in enumerate(zip(names, before, strict=False))
        if needed <= index and name not in several
    ]


def is_network(operation: Any) -> bool:
    """Return whether it is a model whose layers can be called one by one: of one input and output, each layer called
    once.
    """
    if isinstance(operation, keras.Sequential):
        return len({id(layer) for layer in operation.layers}) == len(operation.layers)
    inner = getattr(operation, "operations", [])
    ends = bool(inner) and (len(operation.inputs), len(operation.outputs)) == (1, 1)
    return ends and all(len(each._inbound_nodes) == 1 for each in inner)


def inlined(network: keras.Model, tensor: Any) -> Any:
    """Call the layers of a model once more, on another tensor, one by one: as a model they would be one layer.

    Those of models inside of it too, unless two layers would then have one name.

    Args:
        network: ``is_network``.

    Returns:
        What its last layer makes of the tensor.
    """
    names = list(_names(network))
    return _call(network, (tensor,), {}, deep=len(set(names)) == len(names), whole=True)


def again(whole: keras.Model, tensor: Any, last: str, *, deep: bool = False) -> Any:
    """Call the layers behind ``last`` once more, on another tensor.

    Args:
        whole: a functional model that calls each of its layers once.
        last: the name of one of them, or of the input.
        deep: whether a model among them is called layer by layer too.

    Returns:
        What the last layer makes of it.
    """
    names = [operation.name for operation in whole.operations]
    first = names.index(last) + 1
    tensors = {id(whole.operations[first - 1].output): tensor}
    for operation in whole.operations[first:]:
        (node,) = operation._inbound_nodes
        made = _call(operation, *node.arguments.fill_in(tensors), deep=deep)
        tensors |= {id(old): new for old, new in zip(node.outputs, keras.tree.flatten(made), strict=True)}
    return tensors[id(keras.tree.flatten(whole.output)[0])]


def _call(operation: Any, given: Any, options: Any, *, deep: bool, whole: bool = False) -> Any:
    """Call one operation on tensors; a model layer by layer, if it is the ``whole`` or if all of them are to be."""
    tensors = [each for each in keras.tree.flatten((given, options)) if isinstance(each, keras.KerasTensor)]
    if not (whole or (deep and is_network(operation))) or len(tensors) != 1:
        return operation(*given, **options)
    (tensor,) = tensors
    if not isinstance(operation, keras.Sequential):
        return again(operation, tensor, operation.operations[0].name, deep=deep)
    for layer in operation.layers:
        tensor = _call(layer, (tensor,), {}, deep=deep)
    return tensor


def _names(network: keras.Model) -> Iterator[str]:
    """Return the names of its layers, and of those of models inside of it; not of inputs."""
    for operation in network.layers if isinstance(network, keras.Sequential) else network.operations[1:]:
        if is_network(operation):
            yield from _names(operation)
        else:
            yield operation.name
