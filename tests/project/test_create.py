"""Making a project: what is there afterwards, and what is refused with nothing written."""

import contextlib
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from thaw.project import create, pipeline_run, stale


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Git knows who commits."""
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "test")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "test@example.com")


@pytest.fixture(autouse=True)
def _outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No repository around the tests counts."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))


@pytest.mark.usefixtures("named")
def test_a_new_project_is_committed_and_means_the_images_it_was_given(tmp_path: Path, tiny_images: Path) -> None:
    made = create.make(tmp_path / "mine", str(tiny_images), ["backbone=mobilenet_v3_small", "phase2.epochs=7"])
    assert made.committed and made.uncommitted == "" and made.raw == tiny_images.as_posix()
    params = yaml.safe_load((made.folder / "params.yaml").read_text(encoding="utf-8"))
    assert params["data"]["raw"] == tiny_images.as_posix() and params["phase2"]["epochs"] == 7
    assert params["backbone"]["name"] == "mobilenet_v3_small" and params["image"]["size"] == 224
    assert yaml.safe_load((made.folder / "conf/chosen.yaml").read_text(encoding="utf-8")) == made.choices
    assert git(made.folder, "status", "--porcelain") == ""
    known = set(git(made.folder, "ls-files").splitlines())
    assert {"dvc.yaml", "params.yaml", ".dvc/config", ".dvcignore", ".gitignore", "README.md"} <= known
    assert "conf/config.yaml" in known and "stages/prepare.py" in known
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


SIGNED = "[user]\nname = test\nemail = test@example.com\n[commit]\ngpgsign = true\n[gpg]\nprogram = {}/sign\n"
HOOKED = "[user]\nname = test\nemail = test@example.com\n[core]\nhooksPath = {}\n"
NOBODY = "[user]\nuseConfigOnly = true\n"


@pytest.mark.parametrize(
    ("config", "script", "said"),
    [
        (SIGNED, "exit 2", "gpg failed to sign the data"),
        (HOOKED, "echo 'line 1: too\nlong'; exit 1", "git commit: line 1: too long; mend that"),
        (HOOKED, "exit 3", "git commit: ended with exit code 1, and said nothing; mend that"),
        (
            NOBODY,
            "",
            'tell it, and commit: git config --global user.name "…" && git config --global user.email "…" && ',
        ),
    ],
    ids=["signing", "hook", "silent hook", "nobody"],
)
def test_where_git_commits_nothing_its_own_reason_is_said_with_what_to_do(
    config: str, script: str, said: str, tmp_path: Path, tiny_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sign", "pre-commit"):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "config").write_text(config.format(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    for name in [name for name in os.environ if name.startswith(("GIT_AUTHOR", "GIT_COMMITTER")) or name == "EMAIL"]:
        monkeypatch.delenv(name)
    made = create.make(tmp_path / "my flowers", str(tiny_images))
    assert not made.committed and said in made.uncommitted and "\n" not in made.uncommitted
    assert ("user.name" in made.uncommitted) == (config == NOBODY)
    git(made.folder, "config", "--file", str(tmp_path / "config"), "--remove-section", "user")
    for key, value in (("user.name", "x"), ("user.email", "x@example.com"), ("commit.gpgsign", "false")):
        git(made.folder, "config", "--file", str(tmp_path / "config"), key, value)
    (tmp_path / "pre-commit").unlink()
    again = made.uncommitted[made.uncommitted.index("git -C") :]
    subprocess.run(["bash", "-c", again], check=True, capture_output=True)
    assert git(made.folder, "status", "--porcelain") == "" and git(made.folder, "log", "--format=%s") == "start\n"


def test_an_address_in_an_object_store_is_taken_as_it_is(tmp_path: Path) -> None:
    """Nobody asks the store: whoever makes the project may have no credentials."""
    with pytest.raises(ValueError, match=r"^--add: .*s3://bucket/set"):
        create.make(tmp_path / "mine", "s3://bucket/set", keep=True)
    made = create.make(tmp_path / "mine", "s3://bucket/set")
    assert made.raw == "s3://bucket/set" and made.choices == ["data.raw=s3://bucket/set"]
    params = yaml.safe_load((made.folder / "params.yaml").read_text(encoding="utf-8"))
    assert params["data"]["raw"] == "s3://bucket/set"
    pipeline_run.check_images(made.raw)  # `thaw run`: they come with `prepare`


def test_without_images_they_are_expected_in_the_project(tmp_path: Path) -> None:
    made = create.make(tmp_path / "mine")
    assert made.raw == "data/raw" and (made.folder / made.raw).is_dir()
    assert made.choices == []
    assert create.make(tmp_path / "theirs", words=["data.raw=/some/where"]).raw == "/some/where"


def test_in_a_repository_that_was_there_nothing_is_committed(tmp_path: Path, tiny_images: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    git(theirs, "init", "--quiet")
    (theirs / "code.py").touch()
    made = create.make(theirs / "models" / "flowers", str(tiny_images))
    assert made.repository == "yours" and not (made.folder / ".git").exists()
    assert git(theirs, "status", "--porcelain").splitlines() == ["?? code.py", "?? models/"]

    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "--quiet")
    made = create.make(empty, str(tiny_images))
    assert made.repository == "yours" and (empty / "dvc.yaml").is_file()


def test_what_their_repository_leaves_out_is_followed_where_the_project_needs_it(
    tmp_path: Path, tiny_images: Path
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    git(theirs, "init", "--quiet")
    plain = create.make(theirs / "plain", str(tiny_images)).folder
    assert (plain / ".gitignore").read_text(encoding="utf-8").startswith("# The environment")
    (theirs / ".gitignore").write_text("data/\nmodels/\n*.csv\n*.yaml\n*.lock\n.*\n", encoding="utf-8")
    made = create.make(theirs / "flowers", str(tiny_images)).folder
    written = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    left_out = ["data/raw/a/1.png", "data/prepared/manifest.csv", "models/export/labels.json", ".thaw/ledger.jsonl"]
    for name in (*create.LATER, *left_out, "stages/__pycache__/x.pyc"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).touch()
    seen = git(made, "ls-files", "--others", "--exclude-standard").splitlines()
    assert set(seen) == written | set(create.LATER)
    for name in create.LATER:
        (made / name).unlink()
    with contextlib.chdir(made):
        assert stale.reasons()["prepare"] == ["never run"]  # `thaw explain` sees the pipeline too


@pytest.mark.usefixtures("named")
def test_dvc_keeps_a_copy_of_the_images_where_that_is_asked_for(tmp_path: Path, tiny_images: Path) -> None:
    made = create.make(tmp_path / "mine", str(tiny_images), keep=True)
    assert made.raw == "data/raw" and made.choices == []
    assert len(list((made.folder / "data/raw").rglob("*.png"))) == 36 == len(list(tiny_images.rglob("*.png")))
    assert "data/raw.dvc" in git(made.folder, "ls-files").splitlines()


def lay_out(tmp_path: Path) -> None:
    for folder in ("full", "other/.dvc", "repo/hidden", "images/a"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("full/notes.txt", "file", "list.txt", "list.csv", "a.zip"):
        (tmp_path / file).touch()
    git(tmp_path / "repo", "init", "--quiet")
    (tmp_path / "repo" / ".gitignore").write_text("hidden/\nlater/\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("folder", "data", "words", "keep", "said"),
    [
        ("full", "images", [], False, "expected a new or an empty folder, received one with 'notes.txt' in it"),
        ("file", "images", [], False, "expected a new or an empty folder, received a file"),
        ("other/mine", "images", [], False, "expected a place outside of other DVC projects, received one in "),
        ("repo/hidden/mine", "images", [], False, "expected a folder that git follows"),
        ("repo/later", "images", [], False, "expected a folder that git follows"),
        ("images", "images", [], False, "choose another, such as {}/images-classifier"),
        ("full", "images", [], False, "choose another, such as {}/full/classifier"),
        ("mine", "a.zip", [], False, "; unpack it"),
        ("mine", "nowhere", [], False, "--data: expected a folder of images, or a table of them, found nothing at "),
        ("mine", "list.txt", [], False, "--data: expected a folder, or a .csv or .parquet file"),
        ("mine", "list.csv", [], True, "--add: expected a folder"),
        ("images/mine", "images", [], False, "expected a folder apart from the images"),
        ("mine", "images", ["backbone=resnet5"], False, "backbone=resnet5: no such option; did you mean resnet50 or "),
        ("mine", "images", ["+experiment=nosuch"], False, "experiment=nosuch: no such option; known: article"),
        ("mine", "images", ["phase2.lr=1e-4"], False, "phase2.lr: no such key; did you mean phase2.learning_rate?"),
        ("mine", "images", ["data.raw=nix"], False, "images and data.raw=nix; leave one of them out"),
        ("mine", "images", ["data.raw=nix"], True, "data.raw: expected the images once, received "),
        ("mine", "images", ["phase1.epochs=0"], False, "phase1.epochs: expected 1 to 1000, received 0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_and_nothing_is_written(
    tmp_path: Path, folder: str, data: str, words: list[str], keep: bool, said: str
) -> None:
    lay_out(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ValueError) as refused:  # noqa: PT011 -- its message is looked at
        create.make(tmp_path / folder, str(tmp_path / data), words, keep=keep)
    assert said.format(tmp_path) in str(refused.value) and "\n" not in str(refused.value)
    assert "remembered" not in str(refused.value)  # nothing is, yet
    assert sorted(tmp_path.rglob("*")) == before


def test_what_was_written_is_taken_back_where_dvc_cannot_keep_the_images(
    tmp_path: Path, tiny_images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.setattr(create.sys, "executable", os.devnull)  # type: ignore[attr-defined]
    with pytest.raises(OSError, match=os.devnull):
        create.make(tmp_path / "mine", str(tiny_images), keep=True)
    assert list((tmp_path / "mine").iterdir()) == []
