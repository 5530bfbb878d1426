"""What trials that run at once are told about cores and GPUs."""

import pytest

from thaw.runtime import threads
from thaw.sweep import resources


def test_trials_at_once_leave_each_other_room_and_the_users_own_settings_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")
    for name in (*names, "TF_FORCE_GPU_ALLOW_GROWTH", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "cores", lambda: 8)
    assert resources.environment(0, 1) == {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
    several = resources.environment(0, 3)
    assert [several[name] for name in names] == ["2", "2"]
    assert resources.environment(0, 20)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert [resources.environment(number, 2)["CUDA_VISIBLE_DEVICES"] for number in range(3)] == ["3", "5", "3"]
    assert "CUDA_VISIBLE_DEVICES" not in resources.environment(0, 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert "OMP_NUM_THREADS" not in resources.environment(0, 2)
    assert resources.environment(0, 1)["TF_NUM_INTRAOP_THREADS"] == "7"  # as Ray says it


@pytest.mark.parametrize(
    ("launcher", "sweeper", "expected"),
    [
        ({}, {}, 1),  # one after the other, every combination
        ({"n_jobs": 4}, {}, 4),
        ({"n_jobs": -1}, {}, threads.cores()),  # as joblib has it
        ({"n_jobs": 4}, {"n_jobs": 1}, 1),  # a sampler that learns from each
        ({"n_jobs": 4}, {"n_jobs": 20}, 4),
        ({"n_jobs": None}, {"n_jobs": 20}, 1),
    ],
)
def test_as_many_run_at_once_as_are_given_and_taken(
    launcher: dict[str, int], sweeper: dict[str, int], expected: int
) -> None:
    assert resources.at_once(launcher, sweeper) == expected
