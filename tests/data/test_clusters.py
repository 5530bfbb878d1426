from thaw.data import clusters


def test_clusters_join_links_that_share_an_image() -> None:
    assert clusters.joined(6, [(0, 3), (3, 5), (1, 2)]).tolist() == [0, 1, 1, 0, 4, 0]


def test_images_with_the_same_word_belong_together_and_an_empty_word_says_nothing() -> None:
    assert clusters.joined(6, keys=[["a", "", "b", "a", "", "a"]]).tolist() == [0, 1, 2, 0, 4, 0]
    assert clusters.joined(4, [(0, 1)], [["", "x", "x", ""], ["", "", "y", "y"]]).tolist() == [0, 0, 0, 0]


def test_who_does_not_count_holds_nobody_together_by_pairs_and_words_hold_without_the_first() -> None:
    among = [False, True, True, True]
    assert clusters.joined(4, [(0, 1), (0, 2)], among=among).tolist() == [0, 1, 2, 3]
    assert clusters.joined(4, keys=[["a", "a", "a", ""]], among=among).tolist() == [0, 1, 1, 3]
