"""Rows as MLflow asks for them; tests/tracking/test_registry.py has MLflow itself serve them."""

import numpy as np
import pytest

from thaw.exports.exported import Answer, Exported
from thaw.images import decoding
from thaw.serving import scoring

MODEL = Exported(
    ["a", "b"],
    lambda files: [Answer(np.array([0.25, 0.75], np.float32))] * len(files),
    decoding.USUAL,
    {},
    decode=lambda data: np.zeros((1, 1, 3), np.uint8),
    run=lambda images: [Answer(np.array([0.25, 0.75], np.float32))] * len(images),
)


@pytest.mark.parametrize("given", [{"images": [b"x"]}, {}, {"Image": [b"x"], "path": ["y"]}])
def test_a_table_without_the_column_is_refused_by_name(given: dict[str, list[object]]) -> None:
    with pytest.raises(ValueError, match=r"^expected the column image .* received (images|no column|Image, path); "):
        list(scoring.rows(MODEL, given))


def test_a_table_without_rows_has_no_answers() -> None:
    assert list(scoring.rows(MODEL, {"image": []})) == []
