"""``python -m thaw.config [group=option key=value …]`` compiles conf/ to params.yaml."""

import sys
from pathlib import Path

import yaml

from thaw import paths
from thaw.config import composition, load

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
    words = [word for word in sys.argv[1:] if word != composition.RESET]
    print(composition.configure(words, reset=composition.RESET in sys.argv))
    named = yaml.safe_load(paths.PARAMS.read_text(encoding="utf-8"))["data"]["raw"]
    raw = Path(named)
    if paths.is_remote(named):
        return
    # A stage makes the sample; others may come later, by `dvc pull`.
    if raw != paths.SAMPLE and not paths.is_there(raw):
        place = raw if raw.is_absolute() else f"{raw} in {Path.cwd()}"
        remedy = f"put them there, or name them: {load.COMPILE} data.raw=PATH"
        wanted = f"expected your images, found nothing at {place}; {remedy}"
        print(f"thaw.config: data.raw: {wanted}; `dvc repro` needs them", file=sys.stderr)


if __name__ == "__main__":
    load.run(main, "thaw.config")
