from pathlib import Path

import numpy as np
import pytest

from thaw import backbone, boundaries, depth, layout


@pytest.mark.parametrize("images", [1, 49, 50, 199, 200, 10**6])
@pytest.mark.parametrize("accuracy", [0, 0.5, 0.85, 0.86, 0.95, 0.951, 1])
def test_every_case_has_a_share(accuracy: float, images: float) -> None:
    share = depth.rule(accuracy, images)
    assert share.endswith("%") and 0 < float(share[:-1]) <= 100


def test_more_images_and_a_task_further_away_thaw_no_less() -> None:
    shares = [[float(depth.rule(1 - error, images)[:-1]) for error in (0, 0.1, 0.3)] for images in (10, 100, 1000)]
    for table in (shares, list(zip(*shares, strict=True))):
        assert all(list(row) == sorted(row) and row[0] < row[-1] for row in table)


def test_auto_is_settled_by_what_phase_1_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layout.PHASE1.mkdir(parents=True)
    labels = {"train": np.repeat([0, 1, 2], [300, 250, 40]), "val": np.repeat([0, 1, 2], 20)}
    for split, truth in labels.items():
        said = np.eye(3)[truth]
        said[: len(truth) // 10] = said[: len(truth) // 10, ::-1]  # a tenth wrong
        said[: len(truth) // 10, 1] += 0.1
        np.save(layout.out_of_sample(split), said.astype("float32"))
    assert depth.settled("auto", labels) == depth.rule(0.9, 250)
    assert depth.reason("auto", labels) == "auto: frozen features are right on 90.0%, 250 images a class: thaw 50%"
    assert depth.settled("block_6b", labels) == "block_6b"
    assert depth.reason("block_6b", labels) == ""


def test_what_the_rule_says_is_a_depth() -> None:
    network = backbone.build("efficientnet_lite0", "random", 32)
    for accuracy in (0.5, 0.9, 0.99):
        for images in (10, 100, 1000):
            assert 0 < boundaries.find(network, depth.rule(accuracy, images)).share < 1
