"""The data page: one self-contained HTML page on how many images there are, how large, and what is odd about them.

It stands beside the test's report and looks like it. Thumbnails are small JPEGs inside the page.
"""

import base64
import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from thaw import paths, records
from thaw.evaluation import page
from thaw.images import columns, content, decoding
from thaw.images.integrity import Unusable

SIDE = 88  # pixels, height of a thumbnail
QUALITY = 70  # of the JPEGs: a page of a thousand thumbnails has about 3 MB
IN_A_SHEET, IN_ALL = 12, 1200  # images in the sheet of a class, and in all sheets
CLASS_ROWS = 1000  # of the table of classes
CLUSTERS, IN_A_CLUSTER, PAIRS, FILES = 40, 6, 24, 200  # shown at most; the tables on disk have all
Row = Mapping[str, str]


@dataclass
class Thumbnails:
    """Thumbnails of a page; a file that has gone or changed since is a grey square."""

    root: Path  # that the manifest's paths are relative to
    converted: Mapping[str, str]  # path → sha256 of the file that was converted, for those that were
    hashes: Mapping[str, str]  # path → sha256 of the file that is read

    def __post_init__(self) -> None:
        self.of = cache(self.of)  # type: ignore[method-assign]  # a suspect may be a copy too

    def pixels(self, path: str) -> Image.Image:
        """Return the upright image, at most ``SIDE`` pixels high and twice as wide."""
        file = paths.converted(self.converted[path]) if path in self.converted else self.root / path
        try:
            _, image = decoding.inspect(content.prepared(str(file), self.hashes[path]), 10**9)
        except (KeyError, ValueError, Unusable):
            return Image.new("RGB", (SIDE, SIDE), "#808080")
        scale = min(SIDE / image.height, 2 * SIDE / image.width)
        size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
        return image.resize(size, reducing_gap=2.0)

    def of(self, path: str) -> str:
        """Return one image as a data URI."""
        return _jpeg(self.pixels(path))

    def sheet(self, paths: Sequence[str]) -> str:
        """Return several images in a row as one data URI."""
        pictures = [self.pixels(path) for path in paths]
        strip = Image.new("RGB", (sum(picture.width for picture in pictures), SIDE), "#808080")
        left = 0
        for picture in pictures:
            strip.paste(picture, (left, 0))
            left += picture.width
        return _jpeg(strip)


def write(raw: str, classes: Sequence[str], shown: int, rows: Sequence[Row] | None = None) -> None:
    """Write the page from what ``prepare`` and ``phase1_head`` found.

    Args:
        raw: the folder or table that the manifest was made from.
        classes: names.
        shown: how many suspected label errors.
        rows: of the manifest; None: it is read.
    """
    rows = columns.read() if rows is None else columns.of(rows)
    found = records.read_json(paths.metrics("prepare"))
    suspects = records.read_csv(paths.SUSPECTS)
    converted = columns.ByPath(rows, lambda row: row["sha256"] if row["converted"] else None)
    hashes = columns.ByPath(rows, lambda row: row["converted"] or row["sha256"])
    thumbnails = Thumbnails(paths.images_root(raw), converted, hashes)
    quarantine = records.read_csv(paths.QUARANTINE)
    leaks = records.read_csv(paths.LEAKS)
    cells = Counter(zip(rows.strings("label"), rows.strings("split"), strict=True))
    sums = {name: sum(cells[name, split] for split in paths.SPLITS) for name in classes}
    few = set(sorted(classes, key=sums.__getitem__)[:CLASS_ROWS])
    text = page.template("data_report.html").render(
        classes=classes,
        listed=[name for name in classes if name in few],
        counts={split: {name: cells[name, split] for name in classes} for split in paths.SPLITS},
        most=max(sums.values(), default=1),
        found=found,
        figures=_figures(found, len(suspects)),
        sizes=_sizes(rows),
        shapes=_shapes(rows),
        sheets=_sheets(rows, classes, thumbnails),
        clusters=_clusters(records.read_csv(paths.COPIES), thumbnails),
        leaks=[
            {**row, "pictures": [thumbnails.of(row[name]) for name in ("path", "other_path")]} for row in leaks[:PAIRS]
        ],
        all_leaks=len(leaks),
        suspects=[{**row, "picture": thumbnails.of(row["path"])} for row in suspects[:shown]],
        all_suspects=len(suspects),
        quarantine=[row for row in quarantine if row["action"] == "quarantined"][:FILES],
        kept=Counter(row["kind"] for row in quarantine if row["action"] != "quarantined"),
    )
    records.write_text(paths.DATA_REPORT, text)


def _figures(found: Mapping[str, Any], suspects: int) -> list[tuple[str, str, str]]:
    """Return the cards: name, number, note."""
    near = found["near_duplicates"]
    most = f"in {near['images']:,} images, the most of one: {near['largest']}"
    chance = f"pairs in two splits; a random split would let {found['random_split_leaks']:g} images leak"
    return [
        ("Images", f"{found['images']:,}", f"in {found['classes']} classes"),
        ("Left out", f"{found['refused']:,}", "files that cannot be used"),
        ("Repeated pictures", f"{near['clusters']:,}", most),
        ("Leaks", f"{sum(found[f'{kind}_leaks'] for kind in ('near', 'group', 'linked')):,}", chance),
        ("Label conflicts", f"{found['label_conflicts']:,}", "same bytes, two labels; never tested on"),
        ("Suspected labels", f"{suspects:,}", "worth a look; nothing was done about them"),
    ]


def _sizes(rows: columns.Manifest) -> list[tuple[str, list[str]]]:
    """Return smallest, 5 %, middle, 95 % and largest of width, height and their ratio."""
    width, height = (rows.numbers(name) for name in ("width", "height"))
    table: list[tuple[str, Any, str]] = [("Width, pixels", width, "{:,.0f}")]
    table.append(("Height, pixels", height, "{:,.0f}"))
    table.append(("Width : height", width / np.maximum(height, 1), "{:.2f}"))
    return [
        (name, [form.format(value) for value in np.quantile(values, (0, 0.05, 0.5, 0.95, 1), method="nearest")])
        for name, values, form in table
    ]


def _shapes(rows: columns.Manifest) -> list[tuple[str, int, float]]:
    """Return the histogram of the ratio of width to height: range, count, and share of the largest bar."""
    ratios = rows.numbers("width") / np.maximum(rows.numbers("height"), 1)
    edges = np.array([0, 0.4, 0.55, 0.7, 0.85, 0.98, 1.02, 1.18, 1.43, 1.8, 2.5, np.inf])
    counts, _ = np.histogram(ratios, edges)
    names = [f"{low:g} to {high:g}" for low, high in pairwise(edges[1:-1])]
    names = [f"below {edges[1]:g}", *names, f"above {edges[-2]:g}"]
    names[names.index("0.98 to 1.02")] = "square"
    return [(name, int(n), n / max(counts.max(), 1)) for name, n in zip(names, counts, strict=True) if n]


def _sheets(rows: columns.Manifest, classes: Sequence[str], thumbnails: Thumbnails) -> list[tuple[str, str]]:
    """Return some images of each class, chosen by their hash: the name and one picture."""
    count = min(IN_A_SHEET, max(IN_ALL // max(len(classes), 1), 1))
    codes, labels = rows.codes("label")
    names, hashes = rows.strings("path"), rows.strings("sha256")
    places = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes, minlength=len(labels)))[:-1])
    by_class = dict(zip(labels, places, strict=True))
    chosen = {
        name: sorted(by_class.get(name, ()), key=lambda place: hashlib.sha256(hashes[place].encode()).digest())[:count]
        for name in classes[:IN_ALL]
    }
    return [(name, thumbnails.sheet([names[place] for place in own])) for name, own in chosen.items() if own]


def _clusters(rows: Sequence[Row], thumbnails: Thumbnails) -> list[dict[str, Any]]:
    """Return the clusters of near-duplicates, those with several labels first, then the largest."""
    members: dict[str, list[Row]] = {}
    for row in rows:
        members.setdefault(row["cluster"], []).append(row)
    ordered = sorted(members.values(), key=lambda own: (len({row["label"] for row in own}) == 1, -len(own)))
    return [
        {
            "pictures": [(thumbnails.of(row["path"]), row["path"]) for row in own[:IN_A_CLUSTER]],
            "more": len(own) - IN_A_CLUSTER,
            "labels": sorted({row["label"] for row in own}),
            "splits": sorted({row["split"] or "left out" for row in own}),
            "same": len({row["sha256"] for row in own}) == 1,
        }
        for own in ordered[:CLUSTERS]
    ]


def _jpeg(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
