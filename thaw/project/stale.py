"""Find which stages are stale and why, before anything runs: by DVC, and by values where DVC names a group only."""

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from thaw import paths, records
from thaw.config import concurrency
from thaw.project import code, template
from thaw.tracking import dvc_lock, pipeline

LOOKS = "always changed"  # what DVC says of a stage that runs each time
AGAIN = "these run again, and after them what reads an output that has become another"
NO_GIT = "is not a git repository"
BUSY = ("is busy, it is being blocked", "Unable to acquire lock")  # and where another DVC is at work


def reasons() -> dict[str, list[str]]:
    """Return the stages that will run, in the pipeline's order, each with the reasons.

    Raises:
        ValueError: DVC cannot say it; its line.
    """
    _check_followed()
    words = [sys.executable, "-m", "dvc", "status", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        remedy = "; make one: git init && git add . && git commit --message=start"
        reason = " ".join(done.stderr.split())
        raise ValueError(_busy(reason) or f"dvc status: {reason}{remedy if NO_GIT in reason else ''}")
    said: dict[str, list[Any]] = json.loads(done.stdout or "{}")
    pipelined: dict[str, Any] = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"]
    locked = _locked()
    found: dict[str, list[str]] = {}
    makers: dict[str, str] = {}
    for name, stage in pipelined.items():
        mine = list(_of_dvc(said.get(name, []), locked.get(name, {}))) if name in locked else _of_new(said.get(name))
        mine += _of_code(name) if template.RECORD in pipelined else []
        depends = [_path(each) for each in stage.get("deps", [])]
        before = sorted({makers[each] for each in depends if each in makers} & set(found))
        mine += [f"after {', '.join(before)}"] if before else []
        makers |= {_path(out): name for key in ("outs", "metrics", "plots") for out in stage.get(key, [])}
        if mine:
            found[name] = list(dict.fromkeys(mine))
    return found


def _check_followed() -> None:
    """Require that git looks at dvc.yaml: DVC sees no pipeline otherwise, and says that nothing is stale."""
    words = ["git", "check-ignore", "--no-index", "dvc.yaml"]
    if shutil.which("git") is None:
        raise ValueError("expected the program git, which DVC needs, found none; install it")
    if subprocess.run(words, capture_output=True, check=False).returncode == 0:
        # Asked for the rule, git also names one that takes the file in again.
        told = subprocess.run([*words, "--verbose"], capture_output=True, text=True, encoding="utf-8", check=False)
        rule = told.stdout.partition("\t")[0]
        raise ValueError(f"dvc.yaml: expected a file that git follows, received one that is ignored by {rule}")


def _busy(said: str) -> str:
    """Return a line in place of DVC's objection that another DVC holds the project; empty if it is something else."""
    if not any(each in said for each in BUSY):
        return ""
    holders = [int(each) for each in dict.fromkeys(re.findall(r"\(PID (\d+)\)", said))]
    return concurrency.busy(holders)


def runs_again(group: str, stages: dict[str, Any]) -> list[str]:
    """Return the stages of a dvc.yaml that a change of a group of params.yaml makes stale, directly or by others.

    Args:
        group: or a field that is tracked alone, as GROUP.FIELD.
        stages: of the dvc.yaml.
    """
    found: list[str] = []
    makers: dict[str, str] = {}
    for name, stage in stages.items():
        if group in stage.get("params", []) or {makers.get(_path(each)) for each in stage["deps"]} & {*found}:
            found.append(name)
        makers |= {_path(out): name for key in ("outs", "metrics", "plots") for out in stage.get(key, [])}
    return found


def _of_new(said: list[Any] | None) -> list[str]:
    """Return the reason of a stage that has never run; of one that runs each time there is none."""
    return ["never run"] if said and said != [LOOKS] else []


def _of_dvc(said: list[Any], locked: dict[str, Any]) -> list[str]:
    """Return DVC's reasons for one stage, those of parameters by their values."""
    found: list[str] = []
    for each in said:
        if each == LOOKS:
            continue
        if isinstance(each, str):
            found.append(each)
            continue
        for kind, paths_of in each.items():
            for path, state in paths_of.items():
                if path == paths.PARAMS.name:
                    found += _of_values(locked.get("params", {}).get(path, {}), state)
                elif path.startswith(paths.PACKAGE.as_posix()):
                    continue  # which ``_of_code`` says by the code itself
                else:
                    found.append(f"{kind.removeprefix('changed ').removesuffix('s')} {path} {state}")
    return found


def _at(values: dict[str, Any], name: str) -> Any:
    """Return a group, or a field of one."""
    for each in name.split("."):
        values = values.get(each, {})
    return values


def _of_values(before: dict[str, Any], state: Any) -> list[str]:
    """Return which values of params.yaml are others than those that a stage ran with."""
    now = yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8"))
    groups = list(state) if isinstance(state, dict) else []
    if not before:
        return ["never run"]
    found = []
    for group in groups:
        trees = ({group: dvc_lock.numbered(tree)} for tree in (before.get(group, {}), _at(now, group)))
        old, new = (dict(pipeline.leaves(tree, ".")) for tree in trees)
        found += [f"{key} {old.get(key)} → {new.get(key)}" for key in {**old, **new} if old.get(key) != new.get(key)]
    return found


def upgrade() -> str:
    """Return which stages another version of the package than that of the last run runs again, in a line.

    Empty where version and code are the same, nothing has run, or the project runs code of its own.
    """
    before, now = _version(), version("thaw")
    other = [stage for stage in template.stages() if _of_code(stage)] if before else []
    if before is None or (before == now and not other):
        return ""
    again = f"other code for {', '.join(other)}; {AGAIN}" if other else "nothing runs again"
    return f"thaw {before} → {now}: {again}" if before != now else f"thaw {now}, another build of it: {again}"


def _of_code(stage: str) -> list[str]:
    """Return that the installed package has other code for a stage than that which it ran."""
    path = template.record(stage)
    if stage == template.RECORD or not path.is_file() or records.read_json(path) == {"code": code.of(stage)}:
        return []
    before, now = _version(), version("thaw")
    return [f"other code in the installed thaw ({now}, another build)" if now == before else f"thaw {before} → {now}"]


def _version() -> str | None:
    """Return the version of the package that ran here last, if one did."""
    path = paths.PACKAGE / "version.json"
    return str(records.read_json(path)["thaw"]) if path.is_file() else None


def _locked() -> dict[str, Any]:
    path = paths.DVC_LOCK
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return dict(found.get("stages", {}))


def _path(each: Any) -> str:
    name = each if isinstance(each, str) else next(iter(each))
    return str(name)
