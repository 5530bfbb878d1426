"""``thaw demo``: one HTML file that classifies images without a server and without a network.

In it are the model and ONNX Runtime's WebAssembly build, from the npm package ``onnxruntime-web`` in one version whose
bytes are pinned here. npm fetches it once, from wherever the user's npm is configured to; it is in no repository.
"""

import argparse
import base64
import gzip
import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from thaw import paths, records
from thaw.serving import page

OUT = Path("demo.html")
# The formats that it can hold, the smallest first.
HELD = ("onnx_int8", "onnx")
PACKAGE, VERSION = "onnxruntime-web", "1.30.0"
INTEGRITY = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="  # sha512, as npm
)
CODE = "package/dist/ort.wasm.bundle.min.mjs"
WASM = "package/dist/ort-wasm-simd-threaded.wasm"
# All is in the page: it may fetch nothing, and so can tell nobody what it was shown.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline' 'wasm-unsafe-eval' blob:; "
    "img-src blob: data:; base-uri 'none'; form-action 'none'"
)
FETCH_SECONDS = 600
EXAMPLES = """\
examples:
  thaw demo
  thaw demo --out flowers.html
  thaw demo --model models/export/model_int8.onnx --runtime onnxruntime-web-1.30.0.tgz    # without npm"""


def add(commands: Any) -> None:
    """Add ``demo`` to the command ``thaw``."""
    command = commands.add_parser(
        "demo",
        help="write one HTML file that classifies images without a server",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--model", type=Path, default=paths.EXPORTED, help="exported model (default: %(default)s)")
    command.add_argument("--out", type=Path, default=OUT, help="the file to write (default: %(default)s)")
    command.add_argument(
        "--runtime",
        type=Path,
        metavar="FILE",
        help=f"the npm package {PACKAGE} {VERSION} as a .tgz (default: npm fetches it)",
    )
    command.set_defaults(run=_demo)


def _demo(options: argparse.Namespace) -> None:
    if options.out.is_dir():
        raise ValueError(f"--out: expected a file to write, received the folder {options.out}; add a name to it")
    file = _found(options.model)
    write(options.out, file, options.runtime or fetched())
    size = options.out.stat().st_size / 1e6
    print(f"{options.out}: {size:.1f} MB with {file}; open it in a browser, from the disk or from any server")


def write(out: Path, model: Path, runtime: Path) -> None:
    """Write the page.

    Args:
        out: the HTML file.
        model: an exported ONNX file.
        runtime: the npm package.

    Raises:
        ValueError: the model is none, or the package is not the one that is pinned.
    """
    from thaw.exports import formats  # noqa: PLC0415 -- which who asks for help need not wait for

    loaded = formats.load(model)
    code, wasm = _members(runtime)
    parts = {"runtime": code, "wasm": wasm, "model": model.read_bytes()}
    held = [f'<script type="text/plain" id="{name}">{_packed(data)}</script>' for name, data in parts.items()]
    limit = f'<script type="text/plain" id="limit">{loaded.reading.max_pixels}</script>'
    script = page.read("demo.js") + page.read("page.js")
    text = page.filled(page.read("page.css"), script, loaded.classes, POLICY, "\n".join([limit, *held]))
    records.write_text(out, text)


def _packed(data: bytes) -> str:
    return base64.b64encode(gzip.compress(data, mtime=0)).decode()


def _found(model: Path) -> Path:
    """Return the file that the page is to hold.

    Raises:
        ValueError: there is none.
    """
    from thaw.exports import formats  # noqa: PLC0415

    for path in (*(model / formats.FORMATS[name].about.file for name in HELD), model):
        if formats.FORMATS[HELD[0]].is_one(path):
            return path
    raise ValueError(
        f"{model}: expected an exported model of the format {' or '.join(HELD)}, found none; set export.formats and "
        "run `dvc repro`, or give its folder with --model"
    )


def _members(runtime: Path) -> tuple[bytes, bytes]:
    """Return the code and the WebAssembly of the package, whose bytes are checked before any is read."""
    if not runtime.is_file():
        raise ValueError(f"{runtime}: expected the npm package {PACKAGE} {VERSION}, found none; `npm pack` fetches it")
    data = runtime.read_bytes()
    if base64.b64encode(hashlib.sha512(data).digest()).decode() != INTEGRITY:
        raise ValueError(
            f"{runtime}: expected the npm package {PACKAGE} {VERSION}, received another file; "
            f"`npm pack {PACKAGE}@{VERSION}` fetches it"
        )
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        code, wasm = (archive.extractfile(name) for name in (CODE, WASM))
        if code is None or wasm is None:
            raise ValueError(f"{runtime}: expected {CODE} and {WASM} in it, found none")
        return code.read(), wasm.read()


def fetched() -> Path:
    """Return the package, which npm fetches where it is not there yet."""
    kept = paths.main_root() / paths.RUNTIMES / f"{PACKAGE}-{VERSION}.tgz"
    if kept.is_file():
        return kept
    remedy = f"fetch it elsewhere with `npm pack {PACKAGE}@{VERSION}`, and give it with --runtime"
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError(f"expected the program npm, which fetches {PACKAGE} {VERSION} once, found none; {remedy}")
    with tempfile.TemporaryDirectory() as scratch:
        words = [npm, "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", scratch]
        try:
            done = subprocess.run(
                words, cwd=scratch, capture_output=True, text=True, check=False, timeout=FETCH_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise ValueError(f"npm: expected {PACKAGE} within {FETCH_SECONDS} s, received nothing; {remedy}") from None
        found = list(Path(scratch).glob("*.tgz"))
        if done.returncode or not found:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
            raise ValueError(f"npm: expected {PACKAGE} {VERSION}, received an error ({last[0]:.200}); {remedy}")
        _members(found[0])  # before it is kept
        records.write_bytes(kept, found[0].read_bytes())
    return kept
