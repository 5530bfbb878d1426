import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from thaw import paths
from thaw.config import load, schema
from thaw.data import clusters, fingerprints, judgement, samples, text_columns, validation, validation_cache
from thaw.images import content, decoding

ROOT = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 24, 18
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
PICTURE = Image.fromarray(PIXELS)
DATA = load.check(yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))).data


def encoded(kind: str, picture: Image.Image = PICTURE, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.copy().save(buffer, kind, **options)
    return buffer.getvalue()


def settings(root: Path, policy: dict[str, str] | None = None, **changes: Any) -> schema.Data:
    """The demonstration's settings for another folder; classes may be small, unless a test says otherwise."""
    changed = {"min_per_class": 1, "raw": str(root), **changes}
    return replace(DATA, **changed, policy=replace(DATA.policy, **(policy or {})))


def read(root: Path, policy: dict[str, str] | None = None, **changes: Any) -> validation.Outcome:
    return validation.read(settings(root, policy, **changes))


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes with one good image each, in a project."""
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        PICTURE.save(tmp_path / "images" / name / "good.png")
    return tmp_path / "images"


def listed(outcome: validation.Outcome) -> dict[str, list[str]]:
    """Path → kind and action of each finding."""
    found: dict[str, list[str]] = {}
    for each in outcome.findings:
        assert each.reason
        assert each.remedy
        found.setdefault(each.path, []).append(f"{each.kind} {each.action}")
    return found


def taken(outcome: validation.Outcome) -> list[str]:
    return [sample.path for sample in outcome.samples]


def state(root: Path) -> dict[str, tuple[str, int]]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns) for path in files}


def test_a_file_is_described_by_its_bytes_and_its_folder(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded("JPEG", exif=exif)
    (root / "cat" / "turned.jpg").write_bytes(data)
    outcome = read(root)
    assert outcome.samples[1] == samples.Sample(
        path="cat/turned.jpg",
        sha256=hashlib.sha256(data).hexdigest(),
        label="cat",
        split="",
        width=HEIGHT,
        height=WIDTH,
        fingerprint=fingerprints.fingerprint(decoding.inspect(data)[1]),
    )
    assert listed(outcome) == {"cat/turned.jpg": ["rotated kept"]}


def test_a_tables_split_group_and_weight_reach_the_sample(root: Path) -> None:
    rows = "path,label,split,group,weight\ncat/good.png,a,train,anna,2\ndog/good.png,b,val,,\ngone.png,b,,,\n"
    (root / "images.csv").write_text(rows)
    outcome = read(root / "images.csv")
    found = [(each.path, each.label, each.split, each.group, each.weight) for each in outcome.samples]
    assert found == [("cat/good.png", "a", "train", "anna", 2.0), ("dog/good.png", "b", "val", "", 1.0)]
    assert listed(outcome) == {"gone.png": ["missing quarantined"]}


def test_what_looks_like_one_group_in_a_table_is_one(root: Path) -> None:
    rows = "path,label,split,group\ncat/good.png,a,train ,jos\u00e9\ndog/good.png,b,, jose\u0301 \n"
    (root / "images.csv").write_text(rows, encoding="utf-8")
    first, second = read(root / "images.csv").samples
    assert first.group == second.group == "jos\u00e9"
    assert first.split == "train"


def test_a_class_of_which_no_file_is_there_is_one_that_has_too_few(root: Path) -> None:
    (root / "images.csv").write_text("path,label\ncat/good.png,a\ndog/good.png,b\ngone.png,c\n")
    outcome = read(root / "images.csv", {"few": "quarantine"})
    assert listed(outcome) == {"gone.png": ["missing quarantined"], "c": ["few quarantined"]}
    data = settings(root / "images.csv", {"few": "fail"}, max_bad_share=1.0)
    with pytest.raises(ValueError, match=r"a class of 0 usable images, .*data\.policy\.few is fail"):
        validation.check(validation.read(data), data)


def test_links_that_a_table_names_are_judged_like_files(root: Path) -> None:
    (root / "near.png").symlink_to("cat/good.png")
    (root / "gone.png").symlink_to("nowhere.png")
    (root / "loop.png").symlink_to("loop.png")
    (root / "images.csv").write_text("path,label\nnear.png,a\ngone.png,a\nloop.png,b\ndog/good.png,b\ndog,b\n")
    outcome = read(root / "images.csv")
    assert taken(outcome) == ["dog/good.png", "near.png"]
    found = {each.path: (each.kind, each.reason) for each in outcome.findings}
    assert set(found) == {"gone.png", "loop.png", "dog"}
    assert {kind for kind, _ in found.values()} == {"unreadable"}
    assert not any(str(root) in reason for _, reason in found.values())


def test_every_file_is_taken_or_listed_and_none_is_changed(root: Path) -> None:
    for name, data in {"b.jpg": encoded("JPEG"), "c.webp": encoded("WEBP"), "scan.tif": encoded("TIFF")}.items():
        (root / "dog" / name).write_bytes(data)
    bad = {"empty.png": b"", "text.jpg": b"not a picture", "cut.png": encoded("PNG")[:-1], "icon.ico": encoded("ICO")}
    for name, data in bad.items():
        (root / "cat" / name).write_bytes(data)
    before = state(root)
    outcome = read(root)
    assert state(root) == before
    assert taken(outcome) == ["cat/good.png", "dog/b.jpg", "dog/c.webp", "dog/good.png", "dog/scan.tif"]
    assert listed(outcome) == {
        "cat/cut.png": ["truncated quarantined"],
        "cat/empty.png": ["empty quarantined"],
        "cat/icon.ico": ["unsupported quarantined"],
        "cat/text.jpg": ["not_an_image quarantined"],
        "dog/scan.tif": ["converted converted"],
    }
    assert [each.path for each in outcome.findings] == sorted(each.path for each in outcome.findings)
    assert read(root) == outcome


def test_what_training_cannot_decode_is_read_as_a_png_of_the_same_pixels(root: Path) -> None:
    data = encoded("TIFF", compression="tiff_lzw")
    for name in ("scan.tif", "again.tif"):
        (root / "cat" / name).write_bytes(data)
    one, two = (sample for sample in read(root).samples if sample.converted)
    made = paths.converted(hashlib.sha256(data).hexdigest())
    assert one.converted == two.converted == hashlib.sha256(made.read_bytes()).hexdigest()
    assert [path.name for path in paths.CONVERTED.iterdir()] == [made.name]
    with Image.open(made) as image:
        np.testing.assert_array_equal(np.asarray(image), PIXELS)
    (root / "cat" / "scan.tif").unlink()
    (root / "cat" / "again.tif").unlink()
    read(root)
    assert not paths.CONVERTED.exists()  # nothing of an earlier run stays


def test_an_ending_of_another_format_is_told(root: Path) -> None:
    (root / "cat" / "lie.png").write_bytes(encoded("JPEG"))
    (root / "cat" / "no_ending").write_bytes(encoded("JPEG"))
    (root / "cat" / "SHOUTING.JPG").write_bytes(encoded("JPEG"))
    assert listed(read(root)) == {"cat/lie.png": ["misnamed kept"]}


def test_a_policy_decides_what_happens_to_a_kind(root: Path) -> None:
    (root / "cat" / "moving.gif").write_bytes(
        encoded("GIF", save_all=True, append_images=[Image.new("RGB", (WIDTH, HEIGHT))])
    )
    (root / "cat" / "glass.png").write_bytes(encoded("PNG", PICTURE.convert("RGBA")))
    assert listed(read(root)) == {"cat/glass.png": ["alpha kept"], "cat/moving.gif": ["animated quarantined"]}
    other = read(root, {"animated": "keep", "alpha": "quarantine"})
    assert listed(other) == {"cat/glass.png": ["alpha quarantined"], "cat/moving.gif": ["animated kept"]}
    assert taken(other) == ["cat/good.png", "cat/moving.gif", "dog/good.png"]


def test_a_file_left_out_for_one_kind_is_not_listed_as_kept_for_another(root: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (root / "cat" / "scan.png").write_bytes(encoded("TIFF", exif=exif))
    outcome = read(root, {"converted": "quarantine", "misnamed": "quarantine"})
    assert listed(outcome) == {"cat/scan.png": ["converted quarantined", "misnamed quarantined"]}
    assert outcome.bad() == {"cat/scan.png"}
    assert not paths.CONVERTED.exists()


def test_small_and_large_images_are_told_by_the_settings_also_from_the_memo(root: Path) -> None:
    PICTURE.resize((WIDTH, 40)).save(root / "cat" / "taller.png")
    assert listed(read(root)) == {}
    assert listed(read(root, min_side=HEIGHT)) == {}
    assert list(listed(read(root, min_side=HEIGHT + 1))) == ["cat/good.png", "dog", "dog/good.png"]
    assert listed(read(root, max_pixels=WIDTH * HEIGHT)) == {"cat/taller.png": ["too_large quarantined"]}
    assert listed(read(root, {"small": "keep"}, min_side=HEIGHT + 1))["cat/good.png"] == ["small kept"]


def test_a_file_beyond_the_size_limit_is_not_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content, "MAX_BYTES", 2**20)
    with (root / "cat" / "film.mp4").open("wb") as file:
        file.truncate(2**20 + 1)
    assert listed(read(root)) == {"cat/film.mp4": ["too_large quarantined"]}


def test_something_that_is_not_a_file_is_refused_without_waiting_for_it(root: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no named pipes here")
    os.mkfifo(root / "cat" / "pipe.png")
    assert listed(read(root)) == {"cat/pipe.png": ["unreadable quarantined"]}


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder that all may enter, read by a user who is not root, for whom no permission counts."""
    if not hasattr(os, "geteuid"):
        pytest.skip("no POSIX permissions here")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_what_may_not_be_read_is_refused(as_nobody: Path) -> None:
    for name in ("cat", "dog", "cow"):
        (as_nobody / name).mkdir(mode=0o755)
        PICTURE.save(as_nobody / name / "good.png")
    PICTURE.save(as_nobody / "cat" / "secret.png")
    (as_nobody / "cat" / "secret.png").chmod(0)
    (as_nobody / "cow").chmod(0)
    me = os.geteuid()
    read(as_nobody)  # so that nothing of Python is loaded after the change of user
    if me == 0:
        os.seteuid(65534)
    try:
        outcome = read(as_nobody)
    finally:
        os.seteuid(me)
        (as_nobody / "cow").chmod(0o755)
    assert {each.path: each.reason for each in outcome.findings if each.kind == "unreadable"} == dict.fromkeys(
        ("cat/secret.png", "cow"), "no permission to read it"
    )
    assert "cow" not in outcome.classes


# What stops the stage


def test_a_class_with_too_few_images_stops_the_stage_or_is_left_out(root: Path) -> None:
    (root / "cow").mkdir()
    PICTURE.save(root / "cow" / "only.png")
    (root / "cow" / "bad.png").write_bytes(b"")
    for label in ("cat", "dog"):
        PICTURE.save(root / label / "second.png")
    data = settings(root, min_per_class=2, max_bad_share=0.5)
    with pytest.raises(ValueError, match=r"^cow: a class of 1 usable images, data\.min_per_class is 2; add images"):
        validation.check(validation.read(data), data)
    data = replace(data, policy=replace(data.policy, few="quarantine"))
    outcome = validation.read(data)
    validation.check(outcome, data)
    assert outcome.classes == ["cat", "dog"]
    assert listed(outcome) == {"cow": ["few quarantined"], "cow/bad.png": ["empty quarantined"]}
    assert outcome.bad() == {"cow/bad.png"}
    assert {sample.label for sample in outcome.samples} == {"cat", "dog"}


def test_at_least_two_classes_must_be_left(root: Path) -> None:
    PICTURE.save(root / "cat" / "second.png")
    data = settings(root, {"few": "quarantine"}, min_per_class=2)
    with pytest.raises(ValueError, match=r"expected 2 classes with 2 images, received cat; .*quarantine\.csv"):
        validation.check(validation.read(data), data)


def test_more_bad_files_than_the_share_stop_the_stage_with_what_they_are(root: Path) -> None:
    for number in range(3):
        (root / "cat" / f"{number}.png").write_bytes(b"")
    (root / "dog" / "text.jpg").write_bytes(b"text")
    (root / "dog" / "scan.tif").write_bytes(encoded("TIFF"))  # odd, not bad
    (root / "dog" / ".hidden").touch()
    outcome = read(root)
    validation.check(outcome, settings(root, max_bad_share=4 / 7))
    with pytest.raises(ValueError, match=r"expected 50\.0% bad files at most, received 4 of 7") as raised:
        validation.check(outcome, settings(root, max_bad_share=0.5))
    assert "(3 empty, 1 not_an_image; first cat/0.png: an empty file)" in str(raised.value)
    assert str(paths.QUARANTINE) in str(raised.value)


def test_a_kind_whose_policy_is_to_fail_stops_the_stage(root: Path) -> None:
    for name in ("a.png", "b.png"):
        (root / "cat" / name).write_bytes(b"")
    data = settings(root, {"empty": "fail"}, max_bad_share=1.0)
    outcome = validation.read(data)
    assert len(outcome.quarantined()) == 2
    with pytest.raises(ValueError, match=r"^cat/a\.png: an empty file; .*data\.policy\.empty is fail \(found: 2"):
        validation.check(outcome, data)


def test_the_figures_count_every_kind_and_list_what_was_left_out(root: Path) -> None:
    (root / "cat" / "empty.png").write_bytes(b"")
    (root / "dog" / "scan.tif").write_bytes(encoded("TIFF", PICTURE.convert("CMYK")))
    figures = validation.figures(read(root))
    assert (figures["refused"], figures["ignored"], figures["converted"]) == (1, 0, 1)
    assert {kind: count for kind, count in figures["kinds"].items() if count} == {
        "empty": 1,
        "converted": 1,
        "cmyk": 1,
    }
    assert [(each["path"], each["kind"], each["action"]) for each in figures["kept"]] == [
        ("dog/scan.tif", "cmyk", "kept"),
        ("dog/scan.tif", "converted", "converted"),
    ]
    (left_out,) = figures["quarantine"]
    assert (left_out["path"], left_out["kind"], left_out["reason"]) == ("cat/empty.png", "empty", "an empty file")


def test_of_what_is_kept_the_figures_list_no_more_than_a_few_and_count_all(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validation, "LISTED", 2)
    for number in range(3):
        (root / "cat" / f"{number}.png").write_bytes(encoded("JPEG"))
    outcome = read(root)
    figures = validation.figures(outcome)
    assert (figures["kinds"]["misnamed"], len(figures["kept"])) == (3, 2)
    assert len(list(validation.rows(outcome))) == 3


def test_files_of_16_bits_that_use_12_are_stretched_counted_and_said(
    root: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    numbers = np.random.default_rng(5).integers(0, 4096, (HEIGHT, WIDTH), dtype=np.uint16)
    Image.fromarray(numbers).save(root / "cat" / "scan.png")
    outcome = read(root)
    (sample,) = [each for each in outcome.samples if each.path == "cat/scan.png"]
    assert listed(outcome) == {"cat/scan.png": ["converted converted", "deep kept", "unused_bits stretched"]}
    with Image.open(paths.converted(sample.sha256)) as made:
        np.testing.assert_array_equal(np.asarray(made)[..., 0], numbers >> 4)
    assert validation.figures(outcome)["kinds"]["unused_bits"] == 1
    said = capfd.readouterr().err
    assert "1 of 1 images of 16 bits a channel use fewer" in said
    assert "12 are in use" in said
    # The memo holds what was found under each policy.
    kept = read(root, {"unused_bits": "keep"})
    (sample,) = [each for each in kept.samples if each.path == "cat/scan.png"]
    assert (sample.converted, listed(kept)) == ("", {"cat/scan.png": ["deep kept", "unused_bits kept"]})
    assert listed(read(root)) == listed(outcome)
    for word in ("quarantine", "fail"):
        left_out = read(root, {"unused_bits": word})
        assert listed(left_out)["cat/scan.png"][-1] == "unused_bits quarantined"


# The memo


class Decoded:
    """Counts the files that are decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        inspect = decoding.inspect

        def counted(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            return inspect(*arguments, **options)

        monkeypatch.setattr(decoding, "inspect", counted)

    def by(self, root: Path) -> tuple[int, validation.Outcome]:
        self.count = 0
        outcome = read(root)
        return self.count, outcome


def test_a_content_is_decoded_once_ever(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = Decoded(monkeypatch)
    for number in range(40):
        Image.fromarray(PIXELS + np.uint8(number + 1)).save(root / "cat" / f"{number}.png")
    (root / "cat" / "cut.png").write_bytes(encoded("PNG")[:-1])
    count, first = decoded.by(root)
    assert 42 <= count <= 43  # the two good ones are the same, and may be decoded side by side
    assert decoded.by(root) == (0, first)
    (root / "dog" / "new.png").write_bytes(encoded("PNG", PICTURE.transpose(Image.Transpose.ROTATE_90)))
    (root / "cat" / "0.png").rename(root / "dog" / "moved.png")
    count, then = decoded.by(root)
    assert count == 1
    assert len(then.samples) == len(first.samples) + 1


def test_only_what_is_converted_is_decoded_again_as_its_png_is_made_anew(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "cat" / "scan.tif").write_bytes(encoded("TIFF"))
    decoded = Decoded(monkeypatch)
    _, first = decoded.by(root)
    assert decoded.by(root) == (1, first)
    (sample,) = (sample for sample in first.samples if sample.converted)
    assert paths.converted(sample.sha256).is_file()


def test_other_code_judges_anew(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = Decoded(monkeypatch)
    decoded.by(root)
    monkeypatch.setattr(judgement, "version", lambda stretch: f"another {stretch}")
    assert decoded.by(root)[0] >= 1


def test_the_memo_lies_in_the_main_repository_and_a_damaged_one_is_no_harm(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "main"))
    first = read(root)
    folder = tmp_path / "main" / ".thaw" / "triage"
    assert {path.name for path in folder.iterdir()} == {"judgements.sqlite", "hashes.sqlite"}
    for path in folder.iterdir():
        path.write_bytes(b"nonsense" * 1000)
    assert read(root) == first
    path = folder / "judgements.sqlite"
    with validation_cache.Memo(path, judgement.version(stretch=True)) as table:
        assert table.get(first.samples[0].sha256) is None  # removed, and made by the run after this one
    assert read(root) == first


def shared(name: str) -> Path:
    folder = Path(os.environ.get("THAW_DATASETS", "not given")) / name
    if not folder.is_dir():
        pytest.skip(f"no data set {name} here")
    return folder


def test_real_photographs_are_all_taken_and_their_conflicts_found() -> None:
    outcome = read(shared("trashnet"))
    assert (len(outcome.samples), len(outcome.findings), len(outcome.classes)) == (2527, 0, 6)
    contents = text_columns.numbers(outcome.samples.columns["sha256"])
    torn = clusters.torn(contents, outcome.samples.columns["label"].codes)
    assert len(set(contents[torn].tolist())) == 3


def test_a_real_data_set_with_its_own_splits_is_recognised() -> None:
    outcome = read(shared("hymenoptera"))
    counts = {split: sum(sample.split == split for sample in outcome.samples) for split in ("train", "val", "test")}
    assert counts == {"train": 244, "val": 153, "test": 0}


def test_a_class_the_folder_of_which_cannot_be_entered_stops_the_stage(root: Path) -> None:
    (root / "cow").symlink_to("nowhere")
    data = settings(root)
    outcome = validation.read(data)
    assert listed(outcome)["cow"] == ["few quarantined", "link quarantined"]
    with pytest.raises(ValueError, match=r"^cow: a class of 0 usable images, .* \(a broken link\)"):
        validation.check(outcome, replace(data, max_bad_share=1))
