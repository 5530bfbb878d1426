from pathlib import Path

import yaml

from thaw import paths
from thaw.config import tracked


def test_a_result_depends_on_groups_that_are_tracked_and_on_single_fields_of_others(project: Path) -> None:
    assert project == Path.cwd()
    values = yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8"))
    found = tracked.settling(values)
    assert found["phase2"] == values["phase2"] and not {"tracking", "compiled_from"} & set(found)
    assert found["compute"] == {"deterministic": True}
    del values["compute"]["deterministic"]  # as before there was one
    assert tracked.settling(values) == {name: value for name, value in found.items() if name != "compute"}
    assert tracked.settling({}) == {}


def test_names_meet_where_one_lies_in_the_other() -> None:
    assert tracked.meets("phase2", "phase2") and tracked.meets("phase2.epochs", "phase2")
    assert tracked.meets("compute", "compute.deterministic")
    assert not tracked.meets("compute.depths", "compute.deterministic") and not tracked.meets("phase1", "phase")
    values = {"compute": {"deterministic": False}}
    assert tracked.at(values, "compute.deterministic") is False and tracked.at(values, "compute") == values["compute"]
    assert tracked.at(values, "head.l2.more") is None
