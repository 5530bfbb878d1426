"""What was exported, for the report: size, agreement with what was tested, and speed, a row a format."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thaw import paths
from thaw.catalog.export_formats import FORMATS
from thaw.evaluation import page

# Of the record of latencies: key, head, how it is written.
SPEED = (
    ("p50", "Median, ms", "{:.2f}"),
    ("p95", "95 %, ms", "{:.2f}"),
    ("throughput", "Images/s", "{:,.0f}"),
    ("cold_start", "Cold start, s", "{:.2f}"),
    ("memory", "Memory, MB", "{:,.0f}"),
)


def formats(record: Mapping[str, Any], latencies: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """Return a row for each format that is there: file, size, agreement, and texts of ``SPEED``; "" where unknown.

    Args:
        record: ``metrics/export.json``.
        latencies: by format, of ``paths.LATENCY``. It lies outside of what DVC keeps, so one of a file of another size
            is that of another export, and is left out.
    """
    rows = []
    for name, form in FORMATS.items():
        path = paths.EXPORTED / form.file
        if path.exists():
            own = size(path)
            measured = latencies.get(name, {})
            known = measured if measured.get("bytes") == own else {}
            scale = {"memory": 1e-6}
            speed = [how.format(known[key] * scale.get(key, 1)) if key in known else "" for key, _, how in SPEED]
            rows.append(
                {
                    "name": name,
                    "file": form.file,
                    "size": f"{own / 1e6:,.1f} MB",
                    "agreement": agreement(record.get("formats", {}), name),
                    "speed": speed,
                }
            )
    return rows


def agreement(found: Mapping[str, Mapping[str, float]], name: str) -> str:
    """Return how exactly a format says what was tested, in words; a SavedModel is asked in two ways."""
    ways = [found[way] for way in (name, f"{name}_images") if way in found]
    if not ways:
        return ""
    worst = max(ways, key=lambda way: way["largest_difference"])
    if "agreement" not in worst:
        return f"probabilities within {worst['largest_difference']:.0e}"
    text = f"{page.percent(worst['agreement'])} of the same answers"
    if "accuracy_change" not in worst:
        return text
    change, low, high = (page.points(worst[f"accuracy_change{end}"]) for end in ("", "_low", "_high"))
    return f"{text}, accuracy {change} points ({low} to {high})"


def size(path: Path) -> int:
    """Return the bytes of a file, or of all files of a folder."""
    return sum(each.stat().st_size for each in ([path] if path.is_file() else path.rglob("*")) if each.is_file())


def others(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what else the stage recorded, of all formats."""
    found = []
    if "compared_images" in record:
        odd = f", and {record['odd_photos']} odd photographs" if "odd_photos" in record else ""
        found.append(("Compared", f"{page.number(record['compared_images'])} test images{odd}"))
    if "largest_difference" in record:
        found.append(("Largest difference of a probability", f"{record['largest_difference']:.0e}"))
    return found
