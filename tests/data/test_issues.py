from dataclasses import fields

from thaw.config import policy
from thaw.data import issues


def test_every_kind_has_a_policy_and_a_remedy() -> None:
    assert list(issues.REMEDIES) == [field.name for field in fields(policy.Policy)]
    assert all(issues.REMEDIES.values())


def test_a_finding_tells_its_remedy() -> None:
    found = issues.Finding("empty", "cat/a.jpg", "an empty file")
    assert (found.action, found.remedy) == ("quarantined", issues.REMEDIES["empty"])
