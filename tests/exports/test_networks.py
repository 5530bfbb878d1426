import numpy as np
import pytest

from benchmarks import formats as measured
from thaw.catalog import export_formats
from thaw.config import schema

OPTIONS = schema.Export(list(schema.FORMATS), 1e-3, 1.0, 0.0, 16, 100, latency=False, model="phase2")


@pytest.mark.slow
@pytest.mark.parametrize("name", measured.families())
def test_one_network_of_each_family_is_written_in_each_format_and_says_the_same(name: str) -> None:
    """With random weights, at its smallest input, of the odd photographs."""
    rows = measured.of_network(name, OPTIONS.formats, OPTIONS)
    assert [(row["format"], row["refused"]) for row in rows] == [(form, "") for form in schema.FORMATS]
    for row in rows:
        exact = export_formats.FORMATS[row["format"]].exact
        assert 0 <= row["difference"] <= (OPTIONS.tolerance if exact else 1) and np.isfinite(row["same answers"])
