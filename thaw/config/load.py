"""Compose conf/, check it and compile it to params.yaml; read params.yaml for the stages.

``python -m thaw.config [group=option key=value …]`` writes params.yaml, byte for byte as ``dvc exp run -S …`` does,
and remembers what it was told: ``thaw.config.chosen``.
Stages read that file and nothing else: ``groups`` gives a stage the groups it declares. No TensorFlow here, and Hydra
only where something is composed.
"""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, make_dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from thaw import paths, pipes
from thaw.config import backbone, chosen, concurrency, errors, schema, tracked

# Folders of conf/ that are only ever named on a command line, so params.yaml cannot be stale against them.
ON_DEMAND = ("experiment", "hydra", "hydra_plugins", "sweep.yaml")

COMPILE = "python -m thaw.config"  # what messages name: in a project of one's own there is no Makefile
# Where images can't lie, since stages write there.
OUTPUTS = (paths.PREPARED, paths.PHASE1, paths.PHASE2, paths.EVALUATION, paths.EXPORTED, paths.METRICS)
# What PyYAML raises, besides its own errors, of a text that says of a value that it is a number and is none, or so.
NO_YAML = (AttributeError, IndexError, KeyError, RecursionError, TypeError, ValueError)

ConfigT = TypeVar("ConfigT")


def digest(conf: Path, remembered: Sequence[str] | None = None) -> str:
    """Return sixteen hex digits that change whenever something does that params.yaml is compiled from.

    Args:
        conf: the folder.
        remembered: the choices to count; None: those of conf/chosen.yaml.
    """
    total = hashlib.sha256()
    for path in sorted(conf.rglob("*.yaml")):
        name = path.relative_to(conf)
        if name.parts[0] not in (*ON_DEMAND, paths.CHOSEN.name):
            total.update(f"{name.as_posix()}\n{path.read_text(encoding='utf-8')}\0".encode())
    for word in chosen.read(conf) if remembered is None else remembered:
        total.update(f"{word}\0".encode())
    return total.hexdigest()[:16]


def check(values: dict[str, Any]) -> schema.Project:
    """Check keys, types, ranges and what groups must agree on.

    Args:
        values: the whole of params.yaml as nested dicts.

    Raises:
        ValueError: one line that says which key, what was expected and what was received.
    """
    errors.check_keys(values)
    for name in chosen.TEXTS:
        _check_text(name, values)
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema.Project), values)
        missing = sorted(OmegaConf.missing_keys(merged))
        if missing:
            raise ValueError(
                f"{', '.join(missing)}: expected a value, received none; set it with {missing[0]}=…"
                f"{' and so on' if len(missing) > 1 else ''}, `thaw explain {missing[0]}` has the default"
            )
        project = cast("schema.Project", OmegaConf.to_object(merged))
    except OmegaConfBaseException as error:
        raise ValueError(errors.of_value(error)) from None
    if not paths.is_remote(project.data.raw):
        _check_place(project.data.raw)
    return project


def _check_text(name: str, values: dict[str, Any]) -> None:
    """Refuse a number or a truth value where a text is meant: what was typed is lost by then."""
    *groups, field = name.split(".")
    for each in groups:
        values = values.get(each) or {}
    value = values.get(field, "")
    if value is not None and not isinstance(value, str):
        raise ValueError(
            f"{name}: expected a text, received {value!r}, which is what Hydra or YAML made of it; quote it: "
            f'\'{name}="…"\' on a command line, "…" in a file'
        )


def _check_place(raw: str) -> None:
    """Refuse images in a folder that stages write, or around one: DVC would see a stage that depends on its result."""
    if (home := os.path.expanduser(raw)) != raw:  # noqa: PTH111 -- Path raises where there is no such user
        raise ValueError(f"data.raw: expected the whole path, received {raw}; write {home}")
    here = Path(os.path.abspath(raw))  # noqa: PTH100 -- resolve() would follow links
    for each in OUTPUTS:
        out = Path(os.path.abspath(each))  # noqa: PTH100
        if out.is_relative_to(here) or here.is_relative_to(out):
            raise ValueError(
                f"data.raw: expected a folder of its own for the images, received {raw}, though stages write "
                f"{each.as_posix()}; put them into another folder, such as data/raw"
            )


def register(conf: Path = paths.CONF, remembered: Sequence[str] | None = None) -> None:
    """Make known to Hydra what no file of conf/ holds.

    That is the schema, as the config ``schema``, the remembered choices, as ``remembered``, and the networks of the
    catalog, as options of the group ``backbone``.

    Args:
        conf: the folder.
        remembered: the choices; None: those of conf/chosen.yaml.
    """
    from hydra.core.config_store import ConfigStore  # noqa: PLC0415 -- stages never import Hydra

    register_check(conf, remembered)
    node = OmegaConf.structured(_with_any_text(schema.Project))
    node.compiled_from = "${thaw.compiled_from:}"
    store = ConfigStore.instance()
    store.store(name="schema", node=node)
    for name, option in backbone.options().items():
        if not (conf / "backbone" / f"{name}.yaml").is_file():  # which goes before it
            store.store(group="backbone", name=name, node=option)
    chosen.register(chosen.read(conf) if remembered is None else remembered, conf)


def register_check(conf: Path = paths.CONF, remembered: Sequence[str] | None = None) -> None:
    """Let a composition be checked when it is resolved.

    The check sits in the one field that conf/ does not set: ``compiled_from`` is an interpolation that looks at the
    whole configuration. So it also runs inside ``dvc exp run``, before anything is started.
    """

    def compiled_from(_root_: DictConfig) -> str:
        plain = cast("dict[str, Any]", OmegaConf.to_container(_root_, throw_on_missing=False))
        # Without types and this field, so that a reference gives the value that params.yaml would have.
        values = OmegaConf.to_container(OmegaConf.create(plain | {"compiled_from": ""}), resolve=True)
        check(cast("dict[str, Any]", values))
        return digest(conf, remembered)

    OmegaConf.register_new_resolver("thaw.compiled_from", compiled_from, replace=True)


def resolve(composed: DictConfig) -> None:
    """Resolve what Hydra has composed, which checks it.

    Raises:
        ValueError: ``compiled_from`` was set, so there is no check.
        omegaconf.errors.OmegaConfBaseException: the configuration is wrong.
    """
    if not OmegaConf.is_interpolation(composed, "compiled_from"):
        raise ValueError(f"compiled_from: expected none, since `{COMPILE}` computes it, received one; leave it out")
    OmegaConf.resolve(composed)


def _with_any_text(kind: type, prefix: str = "") -> type:
    """Return the schema with free texts of any type: one that Hydra took for a number would be made a text again."""
    types: list[tuple[str, Any, str]] = []
    for field in fields(kind):
        name = f"{prefix}{field.name}"
        inner = isinstance(field.type, type) and is_dataclass(field.type)
        kept = _with_any_text(cast("type", field.type), f"{name}.") if inner else field.type
        # OmegaConf's sign of what is missing: that of dataclasses is another object in a launcher's other process.
        types.append((field.name, Any if name in chosen.TEXTS else kept, MISSING))
    return make_dataclass(kind.__name__, types)


def compose(
    overrides: Sequence[str] = (), remembered: Sequence[str] | None = None, *, typed: Sequence[str] = ()
) -> str:
    """Compose conf/ with ``overrides`` (Hydra's grammar), check the result and return the text of params.yaml.

    Args:
        overrides: of this composition; free texts, such as paths, need no quotes.
        remembered: the choices that hold besides; None: those of conf/chosen.yaml.
        typed: which of these are new, so that no memory is blamed for them.

    Raises:
        ValueError: a file that is no YAML, an unknown group, option or key, a wrong type or a value out of range; one
            line.
    """
    from hydra import compose as hydra_compose  # noqa: PLC0415 -- stages never import Hydra
    from hydra import initialize_config_dir  # noqa: PLC0415
    from hydra.errors import HydraException  # noqa: PLC0415

    if not paths.CONF.is_dir():
        raise ValueError(f"expected the folder conf/ here, received {Path.cwd()}; run this in the project's root")
    memory = chosen.read(paths.CONF) if remembered is None else remembered
    try:
        errors.check_words([*overrides, *memory])
        register(remembered=memory)
        with initialize_config_dir(str(paths.CONF.resolve()), version_base=None):
            composed = hydra_compose(config_name="config", overrides=[chosen.quoted(word) for word in overrides])
        resolve(composed)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError, ValueError) as error:
        said = errors.explain(error)
        raise ValueError(said + chosen.blamed(said, memory, [*overrides, *typed])) from None
    return OmegaConf.to_yaml(composed)


def read() -> tuple[schema.Project, dict[str, Any]]:
    """Return params.yaml, checked, and the same as nested dicts.

    Raises:
        ValueError: params.yaml is missing, wrong, or older than conf/.
    """
    if not paths.PARAMS.is_file():
        raise ValueError(
            f"expected {paths.PARAMS} in {Path.cwd()}, found none; go to the project's root and run `{COMPILE}`"
        )
    try:
        with paths.PARAMS.open(encoding="utf-8") as file:  # whose name is in the errors of YAML
            values = yaml.safe_load(file)
    except yaml.YAMLError as error:
        raise ValueError(f"{errors.explain(error)}; or run `{COMPILE}`, which writes it anew") from None
    except NO_YAML as error:
        said = f"received what is none ({type(error).__name__}: {error})"
        raise ValueError(f"{paths.PARAMS}: expected YAML, {said}; run `{COMPILE}`") from None
    if not isinstance(values, dict):
        raise ValueError(f"{paths.PARAMS}: expected groups of keys, received {values!r}; run `{COMPILE}`")
    project = check(values)
    # An experiment is composed by DVC as it starts, so it cannot be stale.
    composed_now = "DVC_EXP_NAME" in os.environ
    if paths.CONF.is_dir() and not composed_now and project.compiled_from != digest(paths.CONF):
        raise ValueError(f"conf/ was edited after params.yaml was compiled from it; run `{COMPILE}`, then try again")
    return project, values


def groups(config: type[ConfigT]) -> tuple[ConfigT, dict[str, Any]]:
    """Return the groups that a stage declares, and the whole of params.yaml for its record in MLflow.

    Args:
        config: a dataclass whose fields are named like groups of params.yaml and typed by ``thaw.config.schema``.

    Raises:
        ValueError: params.yaml as a whole is wrong, not only the groups asked for.
    """
    project, values = read()
    concurrency.note({field.name: values.get(field.name) for field in fields(config)})  # type: ignore[arg-type]
    return config(**{field.name: getattr(project, field.name) for field in fields(config)}), values  # type: ignore[arg-type]


def run(main: Callable[[], None], name: str, *, resumes: bool = True) -> None:
    """Call a stage's ``main`` as ``pipes.run`` does; it fails where its values have changed meanwhile."""

    def checked() -> None:
        main()
        concurrency.check_unchanged(lambda values: tracked.of_stage(name, values))

    pipes.run(checked, name, resumes=resumes)
