import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from thaw.data import clusters, cuts, fingerprints, near_duplicates, similar_vectors

THRESHOLD = 0.85


def scene(seed: int, size: tuple[int, int] = (256, 192)) -> Image.Image:
    """A picture of some overlapping shapes on a background of one colour, white for all seeds."""
    chance = np.random.default_rng(seed)
    image = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = chance.uniform(0.1, 0.7, 2) * size
        w, h = chance.uniform(0.05, 0.3, 2) * size
        colour = tuple(chance.integers(0, 230, 3).tolist())
        (draw.ellipse if chance.random() < 0.5 else draw.rectangle)((x, y, x + w, y + h), fill=colour)
    return image


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")


def cut(image: Image.Image, share: float) -> Image.Image:
    width, height = image.size
    return image.crop((round(share * width), round(share * height), round((1 - share) * width), height))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "recompressed": lambda image: jpeg(image, 40),
    "smaller": lambda image: image.resize((image.width // 2, image.height // 2)),
    "larger": lambda image: image.resize((image.width * 2, image.height * 2)),
    "another shape": lambda image: image.resize((image.width, image.width)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.2),
    "less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.7),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "turned by a quarter": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "turned, mirrored, smaller and recompressed": lambda image: jpeg(
        ImageOps.mirror(image.transpose(Image.Transpose.ROTATE_270)).resize((100, 100)), 60
    ),
    "cut": lambda image: cut(image, 0.02),
}


def found_alike(prints: list[str], threshold: float) -> list[tuple[int, int]]:
    return [(one, other) for one, other in near_duplicates.alike(prints, threshold).tolist()]


def alike(*images: Image.Image) -> list[tuple[int, int]]:
    return found_alike([fingerprints.fingerprint(image) for image in images], THRESHOLD)


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_found(name: str) -> None:
    for seed in range(5):
        image = scene(seed)
        assert alike(scene(seed + 100), image, COPIES[name](image)) == [(1, 2)]


def test_pictures_that_share_only_the_background_are_not_alike() -> None:
    assert alike(*(scene(seed) for seed in range(60))) == []


def test_pictures_without_structure_are_not_alike() -> None:
    blank = [Image.new("RGB", (64, 64), colour) for colour in ("white", "white", "black")]
    assert set(fingerprints.fingerprint(blank[0])) == {"0"}
    assert alike(*blank, scene(0)) == []


def test_more_images_than_one_block_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [scene(seed) for seed in range(8)]
    prints = [fingerprints.fingerprint(image) for image in (*images, *map(ImageOps.mirror, images), images[0])]
    expected = found_alike(prints, THRESHOLD)
    assert expected == sorted([*((index, index + 8) for index in range(8)), (0, 16), (8, 16)])
    for module in (near_duplicates, similar_vectors, cuts):
        monkeypatch.setattr(module, "BLOCK", 3)
    monkeypatch.setattr(similar_vectors, "SIDE", 3)
    assert found_alike(prints, THRESHOLD) == expected


def test_of_very_many_images_the_same_copies_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    copies = list(COPIES.values())
    images = [scene(seed) for seed in range(48)]
    images += [copies[seed % len(copies)](image) for seed, image in enumerate(images[:36])]
    prints = [fingerprints.fingerprint(image) for image in images]
    expected = found_alike(prints, THRESHOLD)
    assert expected == [(seed, 48 + seed) for seed in range(36)]
    monkeypatch.setattr(similar_vectors, "EXACT", 0)
    monkeypatch.setattr(similar_vectors, "COST", 0.0)
    monkeypatch.setattr(similar_vectors, "cap_count", lambda count: 1024)
    assert found_alike(prints, THRESHOLD) == expected


def smooth(seed: int, side: int) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    return Image.fromarray(pixels).resize((40, 40), Image.Resampling.BICUBIC)


def noise(seed: int, coarse: int | None = None) -> Image.Image:
    """Coarse and fine noise; the lengths of its frequencies are much like those of others."""
    return Image.blend(smooth(seed if coarse is None else coarse, 6), smooth(seed + 10_000, 16), 0.4)


@pytest.mark.parametrize("exact", [10_000, 0])
def test_of_noise_that_looks_alike_at_first_sight_few_pairs_are_looked_at_as_a_whole(
    exact: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(similar_vectors, "EXACT", exact)
    monkeypatch.setattr(similar_vectors, "COST", 0.0)
    images = [noise(seed) for seed in range(2000)]
    images += [ImageOps.mirror(image) for image in images[:20]]
    looked = {"again": 0, "as a whole": 0}
    compare = near_duplicates._in_eight

    def counted(one: np.ndarray, other: np.ndarray, places: np.ndarray) -> np.ndarray:
        looked["as a whole" if len(places) == fingerprints.COUNT else "again"] += len(one)
        return compare(one, other, places)

    monkeypatch.setattr(near_duplicates, "_in_eight", counted)
    found = found_alike([fingerprints.fingerprint(image) for image in images], THRESHOLD)
    assert found == [(seed, 2000 + seed) for seed in range(20)]
    assert looked["again"] > 200, "of two million pairs"
    assert looked["as a whole"] < 40


def test_of_pictures_with_one_background_few_are_cut_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    images = [noise(seed, coarse=0).resize((160, 160), Image.Resampling.BICUBIC) for seed in range(40)]
    images += [cut(image, 0.025) for image in images[:10]]
    prints = [fingerprints.fingerprint(image) for image in images]
    coarse = np.flatnonzero(fingerprints.RADIUS[fingerprints.KEPT] <= near_duplicates.COARSE)
    levels = fingerprints.parsed(fingerprints.packed(prints).block(0, 50))[:, coarse].astype(np.float32)
    levels /= np.linalg.norm(levels, axis=1, keepdims=True)
    candidates = (np.sum(levels @ levels.T >= near_duplicates.CUT) - 50) // 2
    made, make = 0, cuts.without

    def counted(some: fingerprints.Levels, margins: cuts.Cut) -> fingerprints.Levels:
        nonlocal made
        made += len(some)
        return make(some, margins)

    monkeypatch.setattr(cuts, "without", counted)
    found = found_alike(prints, THRESHOLD)
    assert {(seed, 40 + seed) for seed in range(10)} <= set(found)
    assert candidates > 200 and made < 100, "where each candidate has 32, 16 margins of either"


def test_two_images_are_alike_whatever_else_there_is() -> None:
    prints = [fingerprints.fingerprint(scene(seed)) for seed in (0, 1, 2)] + [
        fingerprints.fingerprint(jpeg(scene(1), 50))
    ]
    assert found_alike(prints, THRESHOLD) == [(1, 3)]
    assert found_alike([prints[1], prints[3]], THRESHOLD) == [(0, 1)]


def test_a_tiny_image_has_a_fingerprint_too() -> None:
    for size in ((1, 1), (3, 200), (28, 28)):
        assert len(fingerprints.fingerprint(scene(0).resize(size))) == len(fingerprints.fingerprint(scene(0)))


def test_of_very_many_equal_ones_not_all_pairs_are_named_but_all_are_held_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prints = [fingerprints.fingerprint(image) for image in [scene(0)] * 3 + [jpeg(scene(0), 40)] * 3 + [scene(1)]]
    assert found_alike(prints, THRESHOLD) == [(one, other) for one in range(6) for other in range(one + 1, 6)]
    monkeypatch.setattr(near_duplicates, "MANY", 2)
    found = found_alike(prints, THRESHOLD)
    assert len(found) < 15
    assert clusters.joined(7, found).tolist() == [0, 0, 0, 0, 0, 0, 6]


def test_a_fingerprint_is_read_as_it_was_made() -> None:
    levels = np.random.default_rng(0).integers(-3, 4, (50, fingerprints.COUNT)).astype(np.int8)
    levels[7] = 0
    texts = [fingerprints._text(row) for row in levels]
    assert texts[7] == "0" * fingerprints.DIGITS
    assert np.array_equal(fingerprints.parsed(fingerprints.packed(texts).block(0, 50)), levels)


def test_a_text_that_is_no_fingerprint_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"fingerprint: expected 240 hexadecimal digits, received 'abc'"):
        found_alike(["abc", "abd"], THRESHOLD)
