import pytest

from thaw.data import label_names


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", " ", "b"], "expected labels that can be read, received ' '"),
        (["a", "a ", "b"], "'a' and 'a ', which differ only by blanks"),
        (["great  white", "great white"], "which differ only by blanks"),
        (["caf\u00e9", "cafe\u0301"], "which differ only by blanks or the coding of accents"),
        (["a", "a,shiny", "b", "b,shiny"], r"'a,shiny', which looks like 2 labels \(2 such\)"),
        (["cat", "dog", "cat;dog"], "several labels an image are not supported"),
        (["['cat', 'dog']", "['cat']", "['dog']"], "several labels"),
        (["x|y", "y|z", "x|z"], "several labels"),
    ],
)
def test_labels_that_are_surely_not_one_class_each_stop(labels: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        label_names.check("images.csv", labels)


@pytest.mark.parametrize(
    "labels",
    [
        ["a", "b", " c"],
        ["tench, Tinca tinca", "maillot", "maillot, tank suit", "crane"],
        ["bread", "bread, white"],
        ["red car", "blue car", "red bus", "blue bus"],
        ["-", "_", ",", "C++", "|"],
        ["1", "01", "10"],
    ],
)
def test_other_labels_are_taken_as_they_are(labels: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    label_names.check("images.csv", labels)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("labels", [["a", "A"], ["stop sign", "stop_sign"], ["Stop-Sign", "stop sign"]])
def test_labels_that_may_be_the_same_are_named(labels: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    label_names.check("images.csv", labels)
    said = " ".join(capsys.readouterr().err.split())
    assert all(repr(label) in said for label in labels)


def test_words_for_nothing_are_classes_and_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    label_names.check("images.csv", ["cat", "nan", "None", "N/A", "nankeen", "null"])
    said = " ".join(capsys.readouterr().err.split())
    assert all(repr(label) in said for label in ("nan", "None", "N/A", "null"))
    assert "cat" not in said and "nankeen" not in said
