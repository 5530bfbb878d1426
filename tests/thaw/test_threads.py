import pytest

from thaw import threads


@pytest.mark.parametrize(("value", "expected"), [("", None), ("0", None), ("3", 3)])
def test_threads_are_tensorflows_own_setting_or_all_cores(
    monkeypatch: pytest.MonkeyPatch, value: str, expected: int | None
) -> None:
    monkeypatch.setenv(threads.VARIABLE, value)
    assert threads.used() == (expected or threads.cores()) > 0
