from dataclasses import fields

from thaw import findings, policy


def test_every_kind_has_a_policy_and_a_remedy() -> None:
    assert list(findings.REMEDIES) == [field.name for field in fields(policy.Policy)]
    assert all(findings.REMEDIES.values())


def test_a_finding_tells_its_remedy() -> None:
    found = findings.Finding("empty", "cat/a.jpg", "an empty file")
    assert (found.action, found.remedy) == ("quarantined", findings.REMEDIES["empty"])
