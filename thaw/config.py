"""conf/ composed, checked and compiled to params.yaml; params.yaml read by the stages.

``python -m thaw.config [group=option key=value …]`` writes params.yaml, byte for byte as ``dvc exp run -S …`` does.
Stages read that file and nothing else: ``load`` gives a stage the groups it declares. No TensorFlow here, and Hydra
only where something is composed.
"""

import gc
import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from thaw import layout, mistakes, pipes, schema

# Groups that a stage reads though DVC does not track them for it, since they cannot change what the stage makes.
UNTRACKED = {
    "compute": "how the work is done: engines, batch sizes of inference, disk budget; whether that made phase 2 "
    "stream is in its record, and phase2.activations settles it",
    "tracking": "where runs are mirrored",
    "phase1_head.data": "where the images lie; what they are is in the manifest, by content hash",
    "phase1_head.phase2": "which activations to keep for phase 2 while images pass; the cache is a memo",
    "phase2_finetune.data": "where the images lie; what they are is in the manifest, by content hash",
}

# Modules that only look on, so that a change in them makes no stage run again.
OBSERVERS = {
    "tracking": "copies files to MLflow",
    "pipeline_run": "finds the files that tracking copies",
    "progress": "what a person sees while a stage runs",
    "pipes": "what a person's terminal can show of it",
    "mistakes": "refuses a wrong configuration, in words; to a right one it does nothing",
    "ledger": "remembers what took how long, for the plans of sweeps",
}

# Folders of conf/ that are only ever named on a command line, so params.yaml cannot be stale against them.
ON_DEMAND = ("experiment", "hydra", "hydra_plugins", "sweep.yaml")

USAGE = """\
python -m thaw.config [group=option …] [group.field=value …]

Composes conf/, checks it, and writes params.yaml, which the stages read. docs/configuration.md has every group
with its options, and every field with its range. A file of conf/experiment/ is chosen with +experiment=NAME."""

ConfigT = TypeVar("ConfigT")


def digest(conf: Path) -> str:
    """Sixteen hex digits that change whenever a file does that params.yaml is compiled from."""
    total = hashlib.sha256()
    for path in sorted(conf.rglob("*.yaml")):
        name = path.relative_to(conf)
        if name.parts[0] not in ON_DEMAND:
            total.update(f"{name.as_posix()}\n{path.read_text(encoding='utf-8')}\0".encode())
    return total.hexdigest()[:16]


def check(values: dict[str, Any]) -> schema.Project:
    """Check keys, types, ranges and what groups must agree on.

    Args:
        values: the whole of params.yaml as nested dicts.

    Raises:
        ValueError: one line that says which key, what was expected and what was received.
    """
    mistakes.check_keys(values)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema.Project), values)
        missing = sorted(OmegaConf.missing_keys(merged))
        if missing:
            raise ValueError(f"{missing[0]}: expected a value, received none; set it with {missing[0]}=…")
        return cast("schema.Project", OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise ValueError(mistakes.of_value(error)) from None


def register() -> None:
    """Make the schema known to Hydra as the config ``schema``, with a check that runs when a composition is resolved.

    The check sits in the one field that conf/ does not set: ``compiled_from`` is an interpolation that looks at the
    whole configuration. So it also runs inside ``dvc exp run``, before anything is started.
    """
    from hydra.core.config_store import ConfigStore  # noqa: PLC0415 -- stages never import Hydra

    def compiled_from(_root_: DictConfig) -> str:
        values = cast("dict[str, Any]", OmegaConf.to_container(_root_, throw_on_missing=False))
        check(values | {"compiled_from": ""})
        return digest(layout.CONF)

    OmegaConf.register_new_resolver("thaw.compiled_from", compiled_from, replace=True)
    node = OmegaConf.structured(schema.Project)
    node.compiled_from = "${thaw.compiled_from:}"
    ConfigStore.instance().store(name="schema", node=node)


def compose(overrides: Sequence[str] = ()) -> str:
    """The text of params.yaml for conf/ with ``overrides`` (Hydra's grammar).

    Raises:
        ValueError: a file that is no YAML, an unknown group, option or key, a wrong type or a value out of range; one
            line.
    """
    from hydra import compose as hydra_compose  # noqa: PLC0415 -- stages never import Hydra
    from hydra import initialize_config_dir  # noqa: PLC0415
    from hydra.errors import HydraException  # noqa: PLC0415

    if not layout.CONF.is_dir():
        raise ValueError(f"expected the folder conf/ here, received {Path.cwd()}; run this in the project's root")
    register()
    try:
        with initialize_config_dir(str(layout.CONF.resolve()), version_base=None):
            composed = hydra_compose(config_name="config", overrides=list(overrides))
        OmegaConf.resolve(composed)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise ValueError(mistakes.explain(error)) from None
    return OmegaConf.to_yaml(composed)


def read() -> dict[str, Any]:
    """The whole of params.yaml, checked.

    Raises:
        ValueError: params.yaml is missing, wrong, or older than conf/.
    """
    if not layout.PARAMS.is_file():
        raise ValueError(
            f"expected {layout.PARAMS} in {Path.cwd()}, found none; go to the project's root and run `make params`"
        )
    values = yaml.safe_load(layout.PARAMS.read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise ValueError(f"{layout.PARAMS}: expected groups of keys, received {values!r}; run `make params`")
    check(values)
    # An experiment is composed by DVC as it starts, so it cannot be stale.
    composed_now = "DVC_EXP_NAME" in os.environ
    if layout.CONF.is_dir() and not composed_now and values["compiled_from"] != digest(layout.CONF):
        raise ValueError(
            "conf/ was edited after params.yaml was compiled from it; run `make params` "
            "(or `python -m thaw.config` with your overrides), then try again"
        )
    return values


def load(config: type[ConfigT]) -> ConfigT:
    """The groups that a stage declares.

    Args:
        config: a dataclass whose fields are named like groups of params.yaml and typed by ``thaw.schema``.

    Raises:
        ValueError: params.yaml as a whole is wrong, not only the groups asked for.
    """
    project = check(read())
    return config(**{field.name: getattr(project, field.name) for field in fields(config)})  # type: ignore[arg-type]


def run(main: Callable[[], None], name: str) -> None:
    """Call a stage's ``main``; an error that a user can mend becomes one line on stderr and exit code 1."""
    pipes.in_any_encoding()
    try:
        main()
    except (ValueError, OSError, ImportError) as error:
        if os.environ.get("THAW_TRACEBACK"):
            raise
        sys.exit(f"{name}: {pipes.shown(' '.join(str(error).split()))}")
    except KeyboardInterrupt:
        sys.exit(f"{name}: interrupted; `dvc repro` starts this stage again")
    finally:
        gc.freeze()  # or Python looks through all that is left of TensorFlow for garbage, only to end: two seconds


def main() -> None:
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(USAGE)
        return
    text = compose(sys.argv[1:])
    layout.PARAMS.write_text(text, encoding="utf-8", newline="\n")
    print(f"{layout.PARAMS} compiled from {layout.CONF}/")
    raw = Path(yaml.safe_load(text)["data"]["raw"])
    if raw != layout.SAMPLE and not raw.exists():  # a stage makes the sample; others may come later, by `dvc pull`
        place = raw if raw.is_absolute() else f"{raw} in {Path.cwd()}"
        wanted = f"expected your images, found nothing at {place}; put them there or set data.raw"
        print(f"thaw.config: data.raw: {wanted}: `dvc repro` needs them", file=sys.stderr)


if __name__ == "__main__":
    run(main, "thaw.config")
