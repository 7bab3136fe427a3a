from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxgan.config import Config, InputError
from jaxgan.presets import PRESETS
from jaxgan.runs import figures


def random_images(n: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).random((n, 28, 28, channels), np.float32)


def test_levels_are_the_nearest_of_256_and_cut_at_the_ends() -> None:
    values = np.array([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 2.0], np.float32)
    assert figures.to_bytes(values).tolist() == [0, 0, 0, 1, 255, 255]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_of_samples_gives_back_its_step_images_and_logits(tmp_path: Path, channels: int) -> None:
    images = random_images(9, channels)
    logits = np.linspace(-3, 3, 9).astype(np.float32)
    path = tmp_path / "a.png"
    path.write_bytes(figures.encode_samples(images, logits, 1234))
    step, levels, read = figures.decode_samples(path, (28, 28, channels))
    assert step == 1234
    assert np.array_equal(levels, figures.to_bytes(images))
    np.testing.assert_allclose(read, logits, atol=1e-4)


def test_a_damaged_or_foreign_picture_is_refused_by_name(tmp_path: Path) -> None:
    whole = figures.encode_samples(random_images(4), np.zeros(4, np.float32), 1)
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    for i, content in enumerate((b"", b"text", whole[: len(whole) // 2], buffer.getvalue())):
        path = tmp_path / f"{i}.png"
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"{i}\.png is not a picture of samples"):
            figures.decode_samples(path, (28, 28, 1))


def test_a_grid_puts_images_row_by_row_with_a_line_between() -> None:
    images = np.stack([np.full((2, 3, 1), level, np.uint8) for level in (10, 20, 30)])
    picture = np.asarray(figures.grid(images, columns=2, scale=1))
    line = 64
    assert picture.tolist() == [
        [10, 10, 10, line, 20, 20, 20],
        [10, 10, 10, line, 20, 20, 20],
        [line] * 7,
        [30, 30, 30, line, line, line, line],
        [30, 30, 30, line, line, line, line],
    ]


def in_bits(number: int) -> np.ndarray:
    """A picture of 8x8 whose first row is a number in bits."""
    pixels = np.zeros((8, 8), np.uint8)
    pixels[0] = [255 * (number >> bit & 1) for bit in range(8)]
    return pixels


def test_a_film_is_thinned_to_its_most_frames_and_keeps_the_first_and_the_last(tmp_path: Path) -> None:
    paths = []
    for i in range(250):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(in_bits(i)).save(paths[-1])
    figures.write_film(paths, [str(i) for i in range(250)], tmp_path / "a.gif")
    with Image.open(tmp_path / "a.gif") as film:
        assert getattr(film, "n_frames", 1) == figures.MAX_FRAMES
        for frame, number in ((0, 0), (figures.MAX_FRAMES - 1, 249)):
            film.seek(frame)
            assert np.array_equal(np.asarray(film.convert("L"))[0], in_bits(number)[0])


@pytest.mark.parametrize("name", PRESETS)
def test_curves_are_drawn_for_every_preset(tmp_path: Path, name: str) -> None:
    names = ("loss/disc", "loss/gen", "prob/real", "prob/fake")
    rows = [{"step": step, **dict.fromkeys(names, 1 / step)} for step in range(1, 200)]
    figures.write_curves(rows, PRESETS[name], tmp_path / "losses.png")
    with Image.open(tmp_path / "losses.png") as picture:
        assert picture.size == (990, 715)


def test_curves_do_without_probabilities(tmp_path: Path) -> None:
    figures.write_curves([{"step": 1, "loss/disc": 0.0, "loss/gen": 1.0}], Config(), tmp_path / "losses.png")
    with Image.open(tmp_path / "losses.png") as picture:
        assert picture.size == (990, 440)


def test_the_first_steps_of_a_run_do_not_squash_its_losses() -> None:
    rows = [{"step": step, "loss/disc": 0.6, "loss/gen": 1.0} for step in range(100, 60_001, 100)]
    rows[0] |= {"loss/gen": 19.0}
    assert figures.loss_limits(rows, [math.log(2)]) == pytest.approx((0.58, 1.02))
    assert figures.loss_limits(rows, [2.0]) == pytest.approx((0.53, 2.07))  # A line is seen,
    rows[-1] |= {"loss/disc": -3.0, "loss/gen": math.inf}
    assert figures.loss_limits(rows, [2.0]) == pytest.approx((-3.25, 2.25))  # and an end that goes wrong,
    assert figures.loss_limits(rows[:1], []) == pytest.approx((0.6 - 0.92, 19.0 + 0.92))  # and a run that hardly began.


def test_the_lines_of_the_equilibrium_are_named() -> None:
    assert figures._name(2 * math.log(2)) == "2 ln 2 = 1.386"
    assert figures._name(math.log(2)) == "ln 2 = 0.693"
    assert figures._name(1.37628) == "1.376"


def test_an_array_file_drops_a_single_channel_and_keeps_three() -> None:
    for channels, shape in ((1, (2, 28, 28)), (3, (2, 28, 28, 3))):
        content = figures.encode_array(random_images(2, channels))
        assert np.load(io.BytesIO(content), allow_pickle=False).shape == shape
