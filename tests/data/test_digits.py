from __future__ import annotations

import numpy as np

from jaxgan.data import digits


def render(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    images, labels = zip(*digits.render(split, count), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def test_the_same_digits_are_rendered_every_time() -> None:
    first, second = render("train", 300), render("train", 300)
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))


def test_the_splits_are_drawn_apart() -> None:
    train, test = render("train", 1500)[0], render("test", 1500)[0]
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in test}


def test_no_two_images_are_the_same() -> None:
    images, _ = render("train", 1500)
    assert len({image.tobytes() for image in images}) == 1500


def test_images_look_like_mnist_in_size_place_and_brightness() -> None:
    images, labels = render("test", 2000)
    assert images.shape == (2000, 28, 28)
    assert images.dtype == np.uint8
    assert (images.max(axis=(1, 2)) == 255).all()
    assert 25 < images.mean() < 45  # MNIST's is 33.
    mass = images / images.sum(axis=(1, 2), keepdims=True)
    rows = (mass.sum(axis=2) * np.arange(28)).sum(axis=1)
    columns = (mass.sum(axis=1) * np.arange(28)).sum(axis=1)
    assert np.abs(rows - 13.5).max() < 2.5
    assert np.abs(columns - 13.5).max() < 2.5
    border = np.concatenate([images[:, [0, -1]], images[:, :, [0, -1]].swapaxes(1, 2)], axis=1)
    assert np.mean(border > 0) < 0.01
    assert np.bincount(labels).tolist() == [200] * 10


def test_labels_come_in_random_order() -> None:
    _, labels = render("train", 1000)
    assert 50 < np.count_nonzero(labels[1:] == labels[:-1]) < 150


def test_every_digit_is_drawn_from_many_fonts() -> None:
    glyphs = digits.load_glyphs()
    assert np.bincount(glyphs.labels).min() >= 16
    assert len({distance.tobytes() for distance in glyphs.distance}) == len(glyphs.labels)


def test_glyphs_fill_their_canvas_without_touching_its_border() -> None:
    glyphs = digits.load_glyphs()
    inside = glyphs.distance > 0
    assert (np.count_nonzero(inside, axis=(1, 2)) > 500).all()
    assert not inside[:, [0, -1]].any()
    assert not inside[:, :, [0, -1]].any()
