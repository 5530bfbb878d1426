import numpy as np
import pytest

from benchmarks import formats as measured
from thaw.config import schema

OPTIONS = schema.Export(["onnx", "litert"], 1e-3, 1.0, 0.0, 16, 100, latency=False, model="phase2")


@pytest.mark.slow
@pytest.mark.parametrize("name", measured.families())
def test_one_network_of_each_family_becomes_an_onnx_and_a_litert_file_that_say_the_same(name: str) -> None:
    """With random weights, at its smallest input, of the odd photographs."""
    rows = measured.of_network(name, OPTIONS.formats, OPTIONS)
    assert [(row["format"], row["refused"]) for row in rows] == [("onnx", ""), ("litert", "")]
    assert all(0 <= row["difference"] <= OPTIONS.tolerance and np.isfinite(row["p50 ms"]) for row in rows)
