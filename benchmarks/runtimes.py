"""Load exported files where nothing but their runtime is installed, with each Python that is at hand.

    python -m benchmarks.runtimes [--python PATH …] [--model DIR] [--image FILE]

For each Python and each runtime, pip installs the runtime, NumPy and Pillow for that Python's version to a folder of
their own. With this folder and no other packages the guide's example is run. It fails if one of them says of the image
anything but what `thaw predict` says here.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import record
from thaw import paths
from thaw.exports import formats

GUIDE = Path("docs/serving.md")
IMAGE = "data/sample/digits/7/3500.png"  # as the guide's examples have it
# The package of each runtime, the file that it loads, and what the guide's example of it imports.
RUNTIMES = {
    "onnxruntime": (paths.ONNX_FILE, "import onnxruntime"),
    "ai-edge-litert": (paths.LITERT_FILE, "from ai_edge_litert"),
}
NEAR = 1e-4  # what a probability may differ by


def example(imports: str) -> str:
    """Return the example of the guide that imports a runtime."""
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    (found,) = (block for block in blocks if imports in block)
    return str(found)


def version(python: str) -> str:
    """Return the version of a Python as pip takes it, such as 3.13."""
    asked = [python, "-c", "import sys; print('{}.{}'.format(*sys.version_info))"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()


def install(package: str, for_version: str, folder: Path) -> None:
    """Install a package with NumPy and Pillow, of those built for a version of Python, to a folder."""
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), "--only-binary=:all:"]
    subprocess.run([*words, "--python-version", for_version, package, "numpy", "pillow"], check=True)


def run(python: str, packages: Path, block: str) -> str:
    """Return what an example prints, or the last line of what it fails with."""
    start = f"import sys; sys.path.insert(0, {str(packages)!r})\n"
    done = subprocess.run([python, "-S", "-c", start + block], capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no message"])[-1]


def agrees(said: str, label: str, probability: float) -> bool:
    """Return whether what an example prints begins with the label and nearly the probability."""
    words = said.split()
    try:
        return words[0] == label and abs(float(words[1]) - probability) < NEAR
    except (IndexError, ValueError):
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", nargs="+", default=[sys.executable], help="interpreters")
    parser.add_argument("--model", type=Path, default=paths.EXPORTED)
    parser.add_argument("--image", type=Path, default=Path(IMAGE))
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for python in options.python:
        for package, (file, imports) in RUNTIMES.items():
            loaded = formats.load(options.model / file)
            (expected,) = loaded.answer([options.image.read_bytes()])
            block = example(imports).replace(str(paths.EXPORTED), str(options.model.resolve()))
            with tempfile.TemporaryDirectory() as folder:
                install(package, version(python), Path(folder))
                said = run(python, Path(folder), block.replace(IMAGE, str(options.image.resolve())))
            same = agrees(said, loaded.classes[int(expected.argmax())], float(expected.max()))
            rows.append(
                {"python": version(python), "package": package, "said": said.strip(), "same": "yes" if same else "no"}
            )
    record.write("runtimes", "Files with their runtime alone", rows)
    if any(row["same"] != "yes" for row in rows):
        sys.exit("runtimes: expected the answers of thaw predict, received others")


if __name__ == "__main__":
    main()
