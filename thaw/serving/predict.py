"""``thaw predict``: predict files and folders with an exported model. Only the exported model is read."""

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from thaw import paths, pipes, records
from thaw.catalog import export_formats
from thaw.exports import formats
from thaw.serving import answers, files

UNFAMILIAR = "unlike the training images"  # a remark behind the label, where the model says so
MANY = 100  # files from which on a bar shows how far it is
EXAMPLES = """\
examples:
  thaw predict new.jpg
  thaw predict ~/pictures 'camera/*.jpg' --top 3
  thaw predict --csv ~/pictures > labels.csv
  thaw predict --json new.jpg --model models/export/model.onnx
  find ~/pictures -name '*.jpg' | thaw predict -

exit codes: 0 all answered, 1 a file could not be used, 2 wrong words on the command line"""

Answered = dict[str, Any]  # path, and what ``answers.told`` returns, or error: an entry of --json


def add(commands: Any) -> None:
    """Add ``predict`` to the command ``thaw``."""
    command = commands.add_parser(
        "predict",
        help="label and probability for images, from the exported model",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "images",
        nargs="+",
        type=_word,
        metavar="IMAGE",
        help="a file, a folder of images, a pattern, or - for standard input: paths, one a line, or one image",
    )
    command.add_argument("--model", type=Path, default=paths.EXPORTED, help="exported model (default: %(default)s)")
    command.add_argument(
        "--format",
        choices=tuple(export_formats.FORMATS),
        default="",
        help="which of the exported formats to ask (default: the one that is loaded first)",
    )
    command.add_argument("--top", type=_count, metavar="K", help="the K likeliest classes (lines: 1; else: all)")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="JSON with the probability of every class")
    form.add_argument("--csv", action="store_true", help="CSV with the probability of every class")
    command.set_defaults(run=_predict)


def _word(text: str) -> str:
    if not text:  # of a shell's variable that is not set; as a path it would be the current folder
        raise argparse.ArgumentTypeError("expected a path, a pattern or -, received an empty word")
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number of classes from 1 on, received {text}")
    return int(text)


def _predict(options: argparse.Namespace) -> None:
    warnings.simplefilter("ignore")  # what Pillow warns of is either refused here or harmless
    meant = files.find(options.images)
    for file, reason in meant.skipped.items():
        print(f"{pipes.on_one_line(_printable(file))}: passed over: {reason}", file=sys.stderr)
    usable = [file for file in meant.files if file not in meant.wrong]
    model = formats.load(options.model, options.format) if usable else None  # none is loaded for no image
    classes = model.classes if model else []
    found = answers.of_files(model, usable, meant.given) if model else iter(())
    failed = 0

    def every() -> Iterator[Answered]:
        nonlocal failed
        for file in _shown(meant.files):
            path, answer = _printable(file), meant.wrong[file] if file in meant.wrong else next(found)
            if not isinstance(answer, str):
                yield {"path": path, **answers.told(classes, answer, options.top)}
                continue
            failed += 1
            print(f"{pipes.on_one_line(path)}: {answer}", file=sys.stderr)
            yield {"path": path, "error": answer}

    _writer(options, classes, scores=bool(model and model.scores))(every())
    if failed:
        raise ValueError(f"{failed} of {len(meant.files)} files could not be used")


def _writer(options: argparse.Namespace, classes: list[str], *, scores: bool) -> Callable[[Iterable[Answered]], None]:
    if options.json:
        return _write_json
    if options.csv:
        return lambda every: _write_csv(every, classes, options.top, scores=scores)
    return lambda every: _write_lines(every, options.top)


def _write_lines(every: Iterable[Answered], top: int | None) -> None:
    for each in every:
        if "error" in each:
            continue  # it stands on standard error
        ranked = list(each["probabilities"].items()) if top else [(each["label"], each["probability"])]
        cells = [f"{pipes.on_one_line(label)}\t{probability:.1%}" for label, probability in ranked]
        if each.get("unfamiliar"):
            cells.append(UNFAMILIAR)
        print(pipes.on_one_line(each["path"]), *cells, sep="\t")


def _write_json(every: Iterable[Answered]) -> None:
    """Write a list, each entry as soon as it is there."""
    before = "["
    for each in every:
        text = json.dumps(each, indent=2, ensure_ascii=not pipes.takes_unicode())
        print(before, *(f"  {line}" for line in text.split("\n")), sep="\n", end="")
        before = ","
    print("[]" if before == "[" else "\n]")


def _write_csv(every: Iterable[Answered], classes: list[str], top: int | None, *, scores: bool) -> None:
    """Write a column for each class, or, of the likeliest, one for each rank; and how unlike the training images."""
    ranks = range(2, min(top or 1, len(classes)) + 1)
    ranked = [name for rank in ranks for name in (f"label_{rank}", f"probability_{rank}")]
    by_class = [] if top else [f"probability: {name}" for name in classes]
    more = ["unfamiliarity", "error"] if scores else ["error"]
    columns = ["path", "label", "probability", *ranked, *by_class, *more]

    def row(each: Answered) -> dict[str, Any]:
        told = {name: each.get(name, "") for name in ("path", "label", "probability", *more)}
        listed = list(each.get("probabilities", {}).items())
        for rank in ranks if listed else ():
            told[f"label_{rank}"], told[f"probability_{rank}"] = listed[rank - 1]
        return told | ({} if top else {f"probability: {name}": value for name, value in listed})

    records.write_rows(sys.stdout, columns, map(row, every))


def _shown(paths_: list[Path]) -> Iterable[Path]:
    """Return the files, with a bar on standard error where they are many, and where no lines are in its way."""
    if len(paths_) < MANY or not sys.stderr.isatty() or sys.stdout.isatty():
        return paths_
    from thaw import console  # noqa: PLC0415 -- a tenth of a second

    return console.track(paths_, "predict", len(paths_), "files", on=console.errors())


def _printable(path: Path) -> str:
    """Return a name as text: it need not be Unicode, what is printed must."""
    return str(path).encode("utf-8", "replace").decode()
