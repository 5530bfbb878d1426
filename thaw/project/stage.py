"""Run a stage of the installed package, for the file of that name in a project's stages/."""

import runpy

from thaw.config import load
from thaw.project import code, template


def run(name: str) -> None:
    """Run the package's stage of this name as DVC would run it in the repository.

    Args:
        name: such as ``phase1_head``.
    """
    if name == template.RECORD:
        load.run(code.write, name)
    else:
        runpy.run_path(str(template.source() / "stages" / f"{name}.py"), run_name="__main__")
