from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml

from thaw.config import load, policy

ROOT = Path(__file__).resolve().parents[2]
SOUND = load.check(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))).data.policy


@pytest.mark.parametrize("kind", [field.name for field in fields(policy.Policy)])
def test_only_what_can_be_learnt_from_may_be_kept(kind: str) -> None:
    for choice in policy.REFUSALS:
        assert getattr(replace(SOUND, **{kind: choice}), kind) == choice
    if kind in policy.ODD:
        assert getattr(replace(SOUND, **{kind: "keep"}), kind) == "keep"
        return
    with pytest.raises(ValueError, match=rf"^data\.policy\.{kind}: expected one of quarantine, fail, received 'keep'"):
        replace(SOUND, **{kind: "keep"})


def test_another_word_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"data\.policy\.small: expected one of quarantine, fail, keep, received 'drop'"
    ):
        replace(SOUND, small="drop")
