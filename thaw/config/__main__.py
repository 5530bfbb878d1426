"""``python -m thaw.config [group=option key=value …]`` compiles conf/ to params.yaml."""

import sys
from pathlib import Path

import yaml

from thaw import paths
from thaw.config import load

USAGE = """\
python -m thaw.config [--reset] [group=option …] [group.field=value …]

Composes conf/, checks it, and writes params.yaml, which the stages read. `thaw explain GROUP` has every field
with its range. A file of conf/experiment/ is chosen with +experiment=NAME.
What is chosen is remembered in conf/chosen.yaml and holds from then on; --reset forgets all that was chosen before."""


def main() -> None:
    """Compile, say with what, and warn of images that are not there."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(USAGE)
        return
    words = [word for word in sys.argv[1:] if word != load.RESET]
    print(load.configure(words, reset=load.RESET in sys.argv))
    named = yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8"))["data"]["raw"]
    raw = Path(named)
    if paths.is_remote(named):
        return
    if raw != paths.SAMPLE and not raw.exists():  # a stage makes the sample; others may come later, by `dvc pull`
        place = raw if raw.is_absolute() else f"{raw} in {Path.cwd()}"
        wanted = f"expected your images, found nothing at {place}; put them there or set data.raw"
        print(f"thaw.config: data.raw: {wanted}: `dvc repro` needs them", file=sys.stderr)


if __name__ == "__main__":
    load.run(main, "thaw.config")
