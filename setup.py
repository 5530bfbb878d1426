"""Put what a new project is made of into a wheel: conf/, stages/, dvc.yaml. All else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PARTS = ("conf", "schemas", "stages", "dvc.yaml", ".dvc/config", ".dvc/.gitignore", ".dvcignore")


class WithTemplate(build_py):
    """Copies the parts into thaw/project/packed; an editable installation finds them where they are."""

    def run(self) -> None:
        """Build the package, then put the parts into it."""
        super().run()
        packed = Path(self.build_lib) / "thaw" / "project" / "packed"
        if self.editable_mode:
            return
        shutil.rmtree(packed, ignore_errors=True)  # what an earlier build has left
        for part in map(Path, PARTS):
            (packed / part).parent.mkdir(parents=True, exist_ok=True)
            if part.is_dir():
                shutil.copytree(part, packed / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(part, packed / part)


setup(cmdclass={"build_py": WithTemplate})
