"""Images in an S3-compatible store: the server is moto's, the client is the one that users have."""

import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
import yaml

from tests.conftest import make_images
from thaw import paths
from thaw.commands import check
from thaw.config import composition, policy, schema
from thaw.data import folders, object_store, store_client, validation

moto = pytest.importorskip("moto.server")
pytest.importorskip("s3fs")
SECRET = "not-to-be-seen-anywhere"  # noqa: S105 -- that is what is tested


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of a server on this machine."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def store(endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A client of it; an empty bucket, and the current folder a project's."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(store_client, "PATIENCE", {"connect_timeout": 2, "retries": {"max_attempts": 1}})
    client = fsspec.filesystem("s3", skip_instance_cache=True)
    if client.exists("bucket"):
        client.rm("bucket", recursive=True)
    client.mkdir("bucket")
    return client


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of four images, and what is no image."""
    root = make_images(tmp_path_factory.mktemp("images"), per_class=4)
    (root / "class_0" / "broken.png").write_bytes(b"no picture")
    (root / "class_1" / "empty.jpg").write_bytes(b"")
    (root / "class_2" / "größe 1.png").write_bytes((root / "class_2" / "00.png").read_bytes())
    (root / "class_2" / ".hidden").write_bytes(b"x")
    return root


def upload(store: Any, root: Path, prefix: str = "bucket/set") -> None:
    store.pipe({f"{prefix}/{path.relative_to(root)}": path.read_bytes() for path in root.rglob("*") if path.is_file()})


def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the objects that are downloaded from now on."""
    names: list[str] = []
    copied = object_store._copied

    def noted(client: Any, each: store_client.Stored, part: Path) -> tuple[str, str, int]:
        names.append(each.path)
        return copied(client, each, part)

    monkeypatch.setattr(object_store, "_copied", noted)
    return names


def settings(raw: str) -> schema.Data:
    values = yaml.safe_load((Path(__file__).parents[2] / "conf/data/folder.yaml").read_text())
    chosen = yaml.safe_load((Path(__file__).parents[2] / "conf/data/policy/default.yaml").read_text())
    plain = {name: value for name, value in values.items() if name not in {"defaults", "policy", "raw"}}
    return schema.Data(raw=raw, policy=policy.Policy(**chosen), **plain)


def test_a_store_is_read_as_a_folder_is(store: Any, images: Path) -> None:
    """Samples and quarantine have the same paths, labels, hashes and reasons."""
    upload(store, images)
    remote, local = validation.read(settings("s3://bucket/set")), validation.read(settings(str(images)))
    assert remote == local
    assert len(remote.samples) == 13 and {each.path for each in remote.quarantined()} == {
        "class_0/broken.png",
        "class_1/empty.jpg",
    }
    assert paths.images_root("s3://bucket/set").is_relative_to(Path.cwd() / ".thaw")


def test_the_same_bytes_that_come_at_the_same_time_are_kept_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, names = tmp_path / "content", (tmp_path / "a", tmp_path / "b")
    parts = [tmp_path / f"{number}.part" for number in (1, 2)]
    for part in parts:
        part.write_bytes(b"the same")
    begun: list[Path] = []
    size = object_store._size

    def meanwhile(path: Path) -> int:
        found = size(path)
        if path == content and not begun:
            begun.append(path)  # the second name settles between the first one's question and its answer
            object_store._settle(parts[1], content, names[1])
        return found

    monkeypatch.setattr(object_store, "_size", meanwhile)
    object_store._settle(parts[0], content, names[0])
    assert names[0].samefile(names[1]) and names[0].samefile(content)
    content.write_bytes(b"cut")  # damaged: another download makes it good
    parts[0].write_bytes(b"the same")
    object_store._settle(parts[0], content, names[0])
    assert content.read_bytes() == names[0].read_bytes() == b"the same"


def test_the_same_bytes_are_kept_once_and_only_what_is_new_is_downloaded(
    store: Any, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(store, images)
    names = opened(monkeypatch)
    place = object_store.fetch("s3://bucket/set")
    assert len(names) == 16
    assert (place / "class_2/00.png").samefile(place / "class_2/größe 1.png")
    names.clear()
    assert object_store.fetch("s3://bucket/set/") == place and names == []
    # One is new, one is another, one has gone, and one was deleted here.
    store.pipe({"bucket/set/class_0/new.png": b"new", "bucket/set/class_0/01.png": b"other bytes"})
    store.rm("bucket/set/class_1/02.png")
    (place / "class_1/03.png").unlink()
    assert object_store.fetch("s3://bucket/set") == place
    assert sorted(names) == ["class_0/01.png", "class_0/new.png", "class_1/03.png"]
    assert (place / "class_0/01.png").read_bytes() == b"other bytes" and not (place / "class_1/02.png").exists()
    assert (place / "class_0/00.png").read_bytes() == (images / "class_0/00.png").read_bytes()


def test_bytes_that_no_name_means_any_more_are_removed_and_so_is_what_a_kill_has_left(
    store: Any, images: Path
) -> None:
    upload(store, images)
    upload(store, images, "bucket/other")
    place, other = (object_store.fetch(f"s3://bucket/{name}") for name in ("set", "other"))
    contents = {path.name: path.read_bytes() for path in place.parent.glob("content/*/*")}
    assert place.with_name("content").is_dir() and len(contents) == len(set(contents.values())) == 15
    left = [place.with_name(f"{name}.{'0' * 64}.part") for name in (place.name, other.name)]
    for part in left:
        part.write_bytes(b"half of an ima")

    store.pipe("bucket/set/class_0/01.png", b"other bytes")
    store.rm("bucket/set/class_1/02.png")
    object_store.fetch("s3://bucket/set")
    assert [part.exists() for part in left] == [False, True]  # another process may be writing that of the other
    # The other address means them still.
    assert {path.name for path in place.parent.glob("content/*/*")} > set(contents)
    store.rm("bucket/other", recursive=True)
    store.pipe("bucket/other/class_0/00.png", (images / "class_0/00.png").read_bytes())
    object_store.fetch("s3://bucket/other")
    there = {path.read_bytes() for path in place.rglob("*") if path.is_file()}
    assert {path.read_bytes() for path in place.parent.glob("content/*/*")} == there
    assert list(place.parent.glob("*.part")) == [] and b"other bytes" in there


def test_on_a_disk_without_hard_links_each_name_has_its_own_bytes(
    store: Any, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no hard links")

    monkeypatch.setattr(os, "link", refuse)
    upload(store, images)
    place = object_store.fetch("s3://bucket/set")
    assert (place / "class_2/00.png").read_bytes() == (place / "class_2/größe 1.png").read_bytes()
    assert sum(path.is_file() for path in place.rglob("*")) == 16
    assert list(place.parent.glob("content/*/*")) == list(place.parent.glob("*.part")) == []


def test_what_was_interrupted_goes_on(store: Any, images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upload(store, images)
    copied = object_store._copied
    monkeypatch.setattr(object_store, "AT_ONCE", 4)
    names = opened(monkeypatch)

    def broken(client: Any, each: store_client.Stored, part: Path) -> tuple[str, str, int]:
        if each.path == "class_1/02.png":
            raise ConnectionResetError("the line is cut")
        return copied(client, each, part)

    with monkeypatch.context() as here:
        here.setattr(object_store, "_copied", broken)
        with pytest.raises(ValueError, match=r"data\.raw: .*ConnectionResetError.*run the same again"):
            object_store.fetch("s3://bucket/set")
    place = object_store.fetch("s3://bucket/set")
    assert "class_1/02.png" in names and 4 <= len(names) <= 12
    assert sum(path.is_file() for path in place.rglob("*")) == 16
    assert list(place.parent.rglob("*.part")) == []


def test_nothing_stays_of_what_the_store_no_longer_has(store: Any, images: Path) -> None:
    """A kill before it was noted leaves a file; what lay deeper, or was a folder of its own, leaves an empty class."""
    upload(store, images)
    store.pipe({"bucket/set/other/deep/er/00.png": (images / "class_0/00.png").read_bytes()})
    store.call_s3("put_object", Bucket="bucket", Key="set/nothing_yet/", Body=b"")
    place = object_store.fetch("s3://bucket/set")
    (place / "class_0/of_a_killed_run.png").write_bytes(b"x")
    store.rm("bucket/set/other", recursive=True)
    store.call_s3("delete_object", Bucket="bucket", Key="set/nothing_yet/")
    assert folders.find("s3://bucket/set", False).classes == ["class_0", "class_1", "class_2"]
    assert sum(path.is_file() for path in place.rglob("*")) == 16
    # A file where a folder was.
    store.pipe({"bucket/set/other": b"x"})
    assert (object_store.fetch("s3://bucket/set") / "other").read_bytes() == b"x"


def test_a_store_that_names_neither_tag_nor_time_is_believed_by_all_that_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    memory = fsspec.filesystem("memory")
    memory.pipe("/set/a/0.png", b"before")
    assert (object_store.fetch("memory://set") / "a/0.png").read_bytes() == b"before"
    memory.pipe("/set/a/0.png", b"behind")
    assert (object_store.fetch("memory://set") / "a/0.png").read_bytes() == b"behind"


@pytest.mark.parametrize("damage", ["shorter", "other bytes"])
def test_what_arrives_damaged_is_refused(
    store: Any, images: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    upload(store, images)
    copied, times = object_store._copied, [0]

    def damaged(client: Any, each: store_client.Stored, part: Path) -> tuple[str, str, int]:
        sha256, md5, size = copied(client, each, part)
        times[0] += 1
        other = f"{times[0]:032x}"  # damaged anew each time
        return (sha256, md5, size - 1) if damage == "shorter" else (other * 2, other, size)

    monkeypatch.setattr(object_store, "_copied", damaged)
    with pytest.raises(ValueError, match=r"^data\.raw: expected [\d,]+ bytes of bucket/set/.* damaged"):
        object_store.fetch("s3://bucket/set")


def test_a_store_whose_tags_are_no_hashes_is_read_too(
    store: Any, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where it encrypts with keys of its own: the bytes are taken once they have come twice."""
    upload(store, images)
    copied = object_store._copied
    monkeypatch.setattr(object_store, "_copied", lambda *given: (copied(*given)[0], "0" * 32, given[1].size))
    assert (object_store.fetch("s3://bucket/set") / "class_0/00.png").is_file()


def test_a_table_names_the_images_beside_it(store: Any, images: Path) -> None:
    upload(store, images)
    table = "path,label\nclass_0/00.png,a\nclass_1/00.png,b\n"
    store.pipe("bucket/set/list.csv", table.encode())
    found = folders.find("s3://bucket/set/list.csv", False)
    assert [(entry.path, entry.label) for entry in found.entries] == [("class_0/00.png", "a"), ("class_1/00.png", "b")]
    assert found.root == paths.images_root("s3://bucket/set/list.csv") == paths.local("s3://bucket/set")


def test_a_store_is_looked_at_before_there_is_a_project(store: Any, images: Path) -> None:
    upload(store, images)
    (remote, _), (local, _) = (check.look(raw, ["data.max_bad_share=0.5"]) for raw in ("s3://bucket/set", str(images)))
    assert remote == local and remote["refused"] == 2 and remote["classes"]
    assert not (Path.cwd() / ".thaw/remote").exists()


def test_a_folder_without_images_is_still_a_class(store: Any, images: Path) -> None:
    """Consoles of stores make a folder of an object whose name ends with a slash."""
    upload(store, images)
    store.call_s3("put_object", Bucket="bucket", Key="set/nothing_yet/", Body=b"")
    assert "nothing_yet" in folders.find("s3://bucket/set", False).classes


@pytest.mark.parametrize(
    ("raw", "change", "said"),
    [
        ("s3://missing/set", {}, "bucket does not exist"),
        ("s3://bucket/none", {}, "found nothing there"),
        ("s3://bucket/set", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "EndpointConnectionError"),
        ("s3://bucket/set", {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "AWS_ACCESS_KEY_ID"),
        ("nope://bucket/set", {}, "installed"),
    ],
    ids=["no bucket", "nothing there", "dead server", "no credentials", "no client"],
)
def test_what_can_not_be_read_is_an_error_in_one_line(
    store: Any, images: Path, monkeypatch: pytest.MonkeyPatch, raw: str, change: dict[str, str], said: str
) -> None:
    upload(store, images)
    for name, value in change.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"^data\.raw: expected") as caught:
        folders.find(raw, False)
    message = str(caught.value)
    assert said in message and raw.partition("://")[2] in message
    assert "\n" not in message and SECRET not in message


def test_names_that_leave_the_folder_are_refused(store: Any, images: Path) -> None:
    upload(store, images)
    store.call_s3("put_object", Bucket="bucket", Key="set/a/../../../../evil.png", Body=b"x")
    with pytest.raises(ValueError, match=r"expected names that are paths"):
        object_store.fetch("s3://bucket/set")
    assert not (Path.cwd() / "evil.png").exists()


def test_what_the_environment_keeps_secret_is_in_no_message(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(*_: Any) -> None:
        raise RuntimeError(f"signed with {SECRET}\nby test")

    monkeypatch.setattr(store_client, "listing", told)
    with pytest.raises(ValueError, match="signed with …") as caught:
        object_store.fetch("s3://bucket/set")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "raw", ["s3://user:hidden@bucket/set", "s3://bucket/set?key=hidden", "https://host/hidden.zip"]
)
def test_an_address_holds_no_credentials_and_its_store_can_list(raw: str) -> None:
    with pytest.raises(ValueError, match=r"^data\.raw: expected") as caught:
        settings(raw)
    assert "hidden" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.usefixtures("project")
def test_dvc_sees_what_changes_in_the_store_and_keeps_artefacts_there(store: Any, images: Path) -> None:
    """`dvc repro` of an address; push to the store, and pull of all that a stage made from there."""

    def dvc(*words: str) -> str:
        done = subprocess.run(["dvc", *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert SECRET not in done.stdout + done.stderr
        return done.stdout

    upload(store, images)
    choices = ["data=folder", "data.raw=s3://bucket/set", "data.max_bad_share=0.5", "tracking.enabled=false"]
    composition.configure(choices, reset=True)
    assert "raw: s3://bucket/set\n" in paths.PARAMS.read_text()
    assert "Running stage 'prepare'" in dvc("repro", "prepare")
    manifest = paths.MANIFEST.read_bytes()
    assert "Running stage" not in dvc("repro", "prepare")
    store.rm("bucket/set/class_1/02.png")
    assert "Running stage 'prepare'" in dvc("repro", "prepare")
    assert manifest.count(b"\n") == paths.MANIFEST.read_bytes().count(b"\n") + 1
    dvc("remote", "add", "--default", "storage", "s3://bucket/dvc")
    dvc("push", "prepare")
    manifest = paths.MANIFEST.read_bytes()
    shutil.rmtree(paths.PREPARED)
    shutil.rmtree(".dvc/cache")
    dvc("pull", "prepare")
    assert paths.MANIFEST.read_bytes() == manifest
    kept = [
        path for path in Path().rglob("*") if path.is_file() and path.suffix in {".yaml", ".json", ".lock", ".csv"}
    ]
    assert len(kept) > 10 and all(SECRET.encode() not in path.read_bytes() for path in [*kept, Path(".dvc/config")])
