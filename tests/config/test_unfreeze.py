"""The values of ``phase2.unfreeze``, parsed."""

import re

import pytest

from thaw.config.unfreeze import Kind, UnfreezeSpec


@pytest.mark.parametrize(
    ("text", "kind", "number", "name"),
    [
        ("none", Kind.NONE, 0, ""),
        ("all", Kind.ALL, 0, ""),
        ("auto", Kind.AUTO, 0, ""),
        ("40", Kind.LAYERS, 40, ""),
        ("1block", Kind.BLOCKS, 1, ""),
        ("3 blocks", Kind.BLOCKS, 3, ""),
        ("30%", Kind.SHARE, 0.3, ""),
        ("12.5 %", Kind.SHARE, 0.125, ""),
        ("100%", Kind.SHARE, 1, ""),
        ("block_6a", Kind.BLOCK, 0, "block_6a"),
        ("layers", Kind.BLOCK, 0, "layers"),  # a word of this module, and no word of the configuration
        ("variables:block_1[56]", Kind.VARIABLES, 0, "block_1[56]"),
    ],
)
def test_a_value_is_a_kind_with_a_number_or_a_name(text: str, kind: Kind, number: float, name: str) -> None:
    spec = UnfreezeSpec.parse(text)
    assert spec == UnfreezeSpec(text, kind, number, name) and str(spec) == text


@pytest.mark.parametrize("text", ["", "0", "-1", "+3", "1.5", "0blocks", "2.5blocks", "0%", "101%", "-5%"])
def test_what_no_network_has_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=rf"expected a number of layers from 1 .*received '{re.escape(text)}'$"):
        UnfreezeSpec.parse(text)


@pytest.mark.parametrize("text", ["variables:", "variables:["])
def test_a_pattern_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=rf"expected a regular expression .*received '{re.escape(text)}' \("):
        UnfreezeSpec.parse(text)
