import numpy as np
import pytest

from thaw.networks import graph
from thaw.runtime.framework import keras

PIXELS = np.random.default_rng(0).uniform(0, 1, (2, 8, 8, 4)).astype("float32")


def conv(name: str) -> keras.layers.Layer:
    return keras.layers.Conv2D(4, 3, padding="same", name=name)


def names(model: keras.Model) -> list[str]:
    feeds, _ = graph.producers(model)
    return [operation.name for operation in graph.order(model, feeds)]


def cut_after(model: keras.Model) -> list[str]:
    feeds, outputs = graph.producers(model)
    found = names(model)
    return [found[cut] for cut in graph.cuts(found, feeds, graph.forked(outputs))]


def inside(name: str, *inner: str) -> keras.Model:
    """A model of some layers."""
    given = keras.Input((8, 8, 4))
    tensor = given
    for each in inner:
        tensor = conv(each)(tensor)
    return keras.Model(given, tensor, name=name)


def test_a_residual_block_is_cut_at_its_ends_only() -> None:
    given = keras.Input((8, 8, 4), name="given")
    first = conv("first")(given)
    added = keras.layers.Add(name="added")([first, conv("second")(conv("within")(first))])
    model = keras.Model(given, conv("last")(added))
    assert cut_after(model) == ["given", "first", "added", "last"]


def test_behind_what_gives_two_tensors_nothing_is_cut() -> None:
    given = keras.Input((8, 8, 4), name="given")
    left, right = keras.ops.split(conv("first")(given), 2, axis=-1)
    joined = keras.layers.Concatenate(name="joined")([conv("second")(left), right])
    model = keras.Model(given, conv("last")(joined))
    assert cut_after(model) == ["given", "first", "joined", "last"]
    feeds, outputs = graph.producers(model)
    assert len(graph.forked(outputs)) == 1 and feeds["second"] <= graph.forked(outputs)


def test_of_two_tensors_one_that_alone_goes_on_is_a_place_to_cut() -> None:
    given = keras.Input((8, 8, 4), name="given")
    _, right = keras.ops.split(conv("first")(given), 2, axis=-1)
    model = keras.Model(given, conv("last")(right))
    assert len(cut_after(model)) == 4


@pytest.mark.parametrize("sequential", [False, True])
def test_models_inside_of_models_are_called_layer_by_layer(sequential: bool) -> None:
    deepest = inside("deepest", "b", "c")
    given = keras.Input((8, 8, 4))
    network = (
        keras.Sequential([given, conv("a"), deepest, conv("d")])
        if sequential
        else keras.Model(given, conv("d")(deepest(conv("a")(given), training=False)))
    )
    assert graph.is_network(network)
    pixels = keras.Input((8, 8, 4), name="pixels")
    flat = keras.Model(pixels, graph.inlined(network, pixels))
    assert names(flat) == ["pixels", "a", "b", "c", "d"]
    np.testing.assert_allclose(flat(PIXELS), network(PIXELS), rtol=1e-5, atol=1e-6)
    assert {id(variable) for variable in flat.variables} == {id(variable) for variable in network.variables}


@pytest.mark.parametrize("how", ["keyword", "dictionary"])
def test_it_does_not_matter_how_a_model_inside_is_called(how: str) -> None:
    start = keras.Input((8, 8, 4), name="start")
    inner = keras.Model({"start": start} if how == "dictionary" else start, conv("b")(start))
    given = keras.Input((8, 8, 4))
    tensor = conv("a")(given)
    network = keras.Model(given, inner({"start": tensor}) if how == "dictionary" else inner(inputs=tensor))
    pixels = keras.Input((8, 8, 4), name="pixels")
    flat = keras.Model(pixels, graph.inlined(network, pixels))
    assert names(flat) == ["pixels", "a", "b"]
    np.testing.assert_allclose(flat(PIXELS), network(PIXELS), rtol=1e-5, atol=1e-6)


def test_models_whose_layers_have_one_name_stay_whole() -> None:
    given = keras.Input((8, 8, 4))
    network = keras.Model(given, inside("two", "a")(inside("one", "a")(given)))
    pixels = keras.Input((8, 8, 4), name="pixels")
    flat = keras.Model(pixels, graph.inlined(network, pixels))
    assert names(flat) == ["pixels", "one", "two"]
    np.testing.assert_allclose(flat(PIXELS), network(PIXELS), rtol=1e-5, atol=1e-6)


def test_what_cannot_be_taken_apart_is_no_network() -> None:
    given, other = keras.Input((8, 8, 4)), keras.Input((8, 8, 4))
    twice = conv("twice")
    assert not graph.is_network(twice)
    assert not graph.is_network(keras.Model(given, twice(twice(given))))
    assert not graph.is_network(keras.Model([given, other], keras.layers.Add()([given, other])))
    one = keras.layers.ReLU()
    assert not graph.is_network(keras.Sequential([one, conv("between"), one]))


def test_layers_are_called_again_from_one_of_them_on() -> None:
    network = inside("whole", "a", "b", "c")
    middle = keras.Input((8, 8, 4), name="middle")
    rest = keras.Model(middle, graph.again(network, middle, "a"))
    assert names(rest) == ["middle", "b", "c"]
    np.testing.assert_allclose(rest(network.get_layer("a")(PIXELS)), network(PIXELS), rtol=1e-5, atol=1e-6)
