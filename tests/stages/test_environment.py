"""What DVC runs again when the weights or the packages are others, with the real DVC and stages that only copy."""

import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

from stages import environment
from thaw import paths, records
from thaw.config import load


def configure(*more: str) -> None:
    paths.PARAMS.write_text(load.compose(["data=folder", "image=px64", *more]), encoding="utf-8", newline="\n")


@pytest.mark.usefixtures("project")
def test_the_same_packages_and_weights_give_the_same_bytes(capsys: pytest.CaptureFixture[str]) -> None:
    environment.main()
    first = paths.ENVIRONMENT.read_bytes()
    assert f"tensorflow {version('tensorflow')}" in capsys.readouterr().out
    configure("phase2.epochs=3")
    environment.main()
    assert paths.ENVIRONMENT.read_bytes() == first
    assert set(records.read_json(paths.ENVIRONMENT)) == {"packages", "sha256"}


@pytest.mark.usefixtures("project")
def test_what_depends_on_it_runs_again_where_weights_were_exchanged_under_one_path_and_only_there() -> None:
    pipeline = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))
    depending = [name for name, stage in pipeline["stages"].items() if paths.ENVIRONMENT.as_posix() in stage["deps"]]
    assert depending == ["phase1_head", "phase2_finetune", "evaluate", "export"]
    # The stage itself as it is; of those that depend on it one, which only copies.
    after = {
        "cmd": f"cp {paths.ENVIRONMENT} after.json",
        "deps": [paths.ENVIRONMENT.as_posix()],
        "outs": ["after.json"],
    }
    stages = {"environment": pipeline["stages"]["environment"], "after": after}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}), encoding="utf-8")
    weights = Path("lite.weights.h5")
    configure(f"backbone.weights={weights}")

    def ran() -> list[str]:
        done = subprocess.run(["dvc", "repro", "after"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return [line.split("'")[1] for line in done.stdout.splitlines() if line.startswith("Running stage")]

    weights.write_bytes(b"one")
    assert ran() == ["environment", "after"]
    assert ran() == ["environment"]
    weights.write_bytes(b"two")
    assert ran() == ["environment", "after"]
