import numpy as np

from thaw.evaluation import mistakes

PROBABILITIES = np.array(
    [[0.9, 0.1, 0.0], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.6, 0.3, 0.1], [0.0, 1.0, 0.0], [0.4, 0.6, 0.0]]
)
LABELS = np.array([0, 2, 0, 1, 1, 1])  # wrong are 1 (0.5), 2 (0.8) and 3 (0.6)


def test_the_surest_mistakes_come_first() -> None:
    assert mistakes.confident(PROBABILITIES, LABELS) == [2, 3, 1]
    assert mistakes.confident(PROBABILITIES, LABELS, 2) == [2, 3]
    assert mistakes.confident(PROBABILITIES, PROBABILITIES.argmax(axis=1)) == []


def test_hits_reach_from_the_surest_to_the_least_sure() -> None:
    sure = np.linspace(0.5, 1, 101)
    assert mistakes.hits(np.stack([sure, 1 - sure], axis=1), np.zeros(101, int), 5) == [100, 75, 50, 25, 0]
    assert mistakes.hits(PROBABILITIES, LABELS) == [4, 0, 5]
    assert mistakes.hits(PROBABILITIES, (PROBABILITIES.argmax(axis=1) + 1) % 3) == []


def test_examples_of_a_pair_are_mistaken_ones_and_right_ones_of_the_other_class() -> None:
    found = mistakes.examples(PROBABILITIES, LABELS, {"actual": 0, "predicted": 2})
    assert found == {"mistaken": [2], "right": []}
    assert mistakes.examples(PROBABILITIES, LABELS, {"actual": 2, "predicted": 1}) == {
        "mistaken": [1],
        "right": [4, 5],
    }


def test_a_twin_is_a_near_duplicate_with_another_label() -> None:
    rows = [
        {"cluster": cluster, "path": path, "label": label}
        for cluster, path, label in (
            ("1", "a", "x"),
            ("1", "b", "y"),
            ("1", "c", "x"),
            ("2", "d", "x"),
            ("2", "e", "x"),
        )
    ]
    assert mistakes.twins(rows) == {"a": "b", "b": "a", "c": "b"}


def test_the_table_has_every_mistake_with_what_speaks_for_a_wrong_label() -> None:
    names, classes = [f"{n}.png" for n in range(6)], ["x", "y", "z"]
    copies = [{"cluster": "1", "path": "3.png", "label": "y"}, {"cluster": "1", "path": "t.png", "label": "x"}]
    rows = mistakes.table(names, LABELS, PROBABILITIES, classes, {"2.png", "0.png"}, copies)
    assert [tuple(row.values()) for row in rows] == [
        ("2.png", "x", "z", 0.8, 0.1, "yes", ""),
        ("3.png", "y", "x", 0.6, 0.3, "no", "t.png"),
        ("1.png", "z", "y", 0.5, 0.3, "no", ""),
    ]
