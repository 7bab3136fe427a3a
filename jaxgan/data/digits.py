"""The embedded data set: digits of the fonts that matplotlib ships, under random affine maps and stroke widths.

It needs no download. Its pixels depend on the versions of FreeType, Pillow, NumPy and SciPy, and on nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from jaxtyping import Bool, Float32, Int64, Shaped, UInt8
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

SIZE = 28
COUNTS = {"train": 60_000, "test": 10_000}
SEEDS = {"train": 1, "test": 2}

# matplotlib's other fonts hold no digits, or symbols in their place.
FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-BoldOblique",
    "DejaVuSans-Oblique",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-BoldOblique",
    "DejaVuSansMono-Oblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-BoldItalic",
    "DejaVuSerif-Italic",
    "STIXGeneral",
    "STIXGeneralBol",
    "STIXGeneralBolIta",
    "STIXGeneralItalic",
    "cmb10",
    "cmmi10",
    "cmr10",
    "cmss10",
    "cmtt10",
)
# The zeros of DejaVu Sans Mono are slashed; the old-style 0 and 1 of cmmi10 read as the letters o and I.
SKIPPED = {(font, 0) for font in FONTS if "Mono" in font} | {("cmmi10", 0), ("cmmi10", 1)}

EM = 128  # Font size in canvas pixels, so that an output pixel is about 4.6 canvas pixels.
CANVAS = 176
BOX = 20.0  # MNIST fits a digit into a box of this side, then centres it by its mass.
REACH = 12.0  # How far from the middle of the image the outline may be, before strokes are thickened.
CHUNK = 1000


class Glyphs(NamedTuple):
    """Every digit of every font, once; g glyphs, lengths in canvas pixels, points as (x, y)."""

    labels: Int64[np.ndarray, " g"]
    distance: Float32[np.ndarray, "g s s"]
    """Signed distance to the outline, positive inside."""
    hull: Float32[np.ndarray, "g k 2"]
    """The glyph's extreme points in k directions, relative to `centre`."""
    centre: Float32[np.ndarray, "g 2"]
    """The glyph's centre of mass."""
    stroke: Float32[np.ndarray, " g"]
    """The mean width of the glyph's strokes."""


def render(split: str, count: int) -> Iterator[tuple[UInt8[np.ndarray, "k h w"], UInt8[np.ndarray, " k"]]]:
    """Yields the images of a split and their labels, in chunks: white on black, 28x28, each from 0 to 255.

    The same split and count give the same bytes with the same library versions; `train` and `test` are drawn from
    streams of their own.

    Args:
        split: "train" or "test".
        count: Images in all, > 0; every digit comes up equally often, to one.
    """
    rng = np.random.Generator(np.random.PCG64(SEEDS[split]))
    glyphs = load_glyphs()
    labels = rng.permutation(count) % 10
    for start in range(0, count, CHUNK):
        chosen = labels[start : start + CHUNK]
        yield _draw(glyphs, choose(glyphs, chosen, rng), rng), chosen.astype(np.uint8)


def choose(glyphs: Glyphs, labels: Int64[np.ndarray, " k"], rng: np.random.Generator) -> Int64[np.ndarray, " k"]:
    """For each label, the index of a glyph of that digit, every font equally likely."""
    of_digit = [np.flatnonzero(glyphs.labels == digit) for digit in range(10)]
    sizes = np.array([len(indices) for indices in of_digit])
    picks = rng.integers(0, sizes[labels])
    return np.array([of_digit[label][pick] for label, pick in zip(labels, picks, strict=True)], np.int64)


def load_glyphs() -> Glyphs:
    """Draws every digit of every font that is not skipped."""
    folder = Path(mpl.get_data_path()) / "fonts" / "ttf"
    wanted = [(font, digit) for font in FONTS for digit in range(10) if (font, digit) not in SKIPPED]
    measured = [_measure(_mask(folder / f"{font}.ttf", digit)) for font, digit in wanted]
    distance, hull, centre, stroke = (np.stack(column).astype(np.float32) for column in zip(*measured, strict=True))
    return Glyphs(np.array([digit for _, digit in wanted]), distance, hull, centre, stroke)


def _mask(path: Path, digit: int) -> Bool[np.ndarray, "s s"]:
    """One glyph, filled, in the middle of its canvas."""
    image = Image.new("L", (CANVAS, CANVAS))
    # The basic layout is Pillow's own: an optional shaping library would otherwise take part where it is installed.
    font = ImageFont.truetype(str(path), EM, layout_engine=ImageFont.Layout.BASIC)
    ImageDraw.Draw(image).text((CANVAS / 2, CANVAS / 2), str(digit), fill=255, font=font, anchor="mm")
    return np.asarray(image) >= 128


def _measure(mask: Bool[np.ndarray, "s s"]) -> tuple[Shaped[np.ndarray, "*shape"], ...]:
    """The distance, hull, centre and stroke of a glyph, see `Glyphs`."""
    inside = np.asarray(ndimage.distance_transform_edt(mask), np.float64)
    outside = np.asarray(ndimage.distance_transform_edt(~mask), np.float64)
    distance = np.where(mask, inside - 0.5, 0.5 - outside)
    points = np.argwhere(mask)[:, ::-1].astype(np.float64)
    centre = points.mean(axis=0)
    angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)])
    hull = points[np.argmax((points - centre) @ directions, axis=0)] - centre
    # A stroke of length l and width w has area l * w and about 2 l of outline, which is one pixel wide in `edge`.
    edge = np.count_nonzero(mask & (inside <= 1))
    return distance, hull, centre, np.array(2 * np.count_nonzero(mask) / edge)


def _draw(glyphs: Glyphs, chosen: Int64[np.ndarray, " k"], rng: np.random.Generator) -> UInt8[np.ndarray, "k h w"]:
    """One image of each chosen glyph, under an affine map and a stroke width of its own."""
    count = len(chosen)
    maps = _random_maps(rng, count)
    corners = np.einsum("kij,knj->kni", maps, glyphs.hull[chosen])
    zoom = BOX * rng.uniform(0.86, 1.0, count) / np.ptp(corners, axis=1).max(axis=1)
    maps, corners = maps * zoom[:, None, None], corners * zoom[:, None, None]
    # Lengths shrink by the root of the determinant on average.
    unit = np.sqrt(np.abs(np.linalg.det(maps)))
    # Hairlines of high-contrast fonts would vanish under more thinning than this.
    grow = np.clip((rng.uniform(2.0, 4.0, count) - glyphs.stroke[chosen] * unit) / 2, -0.3, 1.1)
    # A digit whose mass lies at one end, such as a 7, may reach the border no further than this.
    shift = rng.uniform(-1.0, 1.0, (count, 2)).clip(-REACH - corners.min(axis=1), REACH - corners.max(axis=1))
    distance = _sample(glyphs, chosen, np.linalg.inv(maps), shift) * unit[:, None, None].astype(np.float32)
    blur = rng.uniform(0.9, 1.5, count)  # Width in pixels of the step from black to white.
    level = np.clip(0.5 + (distance + grow[:, None, None]) / blur[:, None, None], 0, 1)
    level /= level.max(axis=(1, 2), keepdims=True)
    return np.round(255 * level).astype(np.uint8)


def _random_maps(rng: np.random.Generator, count: int) -> Shaped[np.ndarray, "k 2 2"]:
    """Random rotations, slants and aspects, as matrices from canvas to image."""
    angle = np.radians(rng.normal(0, 7, count).clip(-18, 18))
    slant, aspect = rng.uniform(-0.15, 0.35, count), np.exp(rng.uniform(-0.2, 0.3, count))
    cos, sin, zero, one = np.cos(angle), np.sin(angle), np.zeros(count), np.ones(count)
    turn = np.array([[cos, -sin], [sin, cos]])
    # y points down, so a positive slant leans the top to the right.
    lean = np.array([[aspect, -slant], [zero, one]])
    return np.einsum("ijk,jlk->kil", turn, lean)


def _sample(
    glyphs: Glyphs,
    chosen: Int64[np.ndarray, " k"],
    inverses: Shaped[np.ndarray, "k 2 2"],
    shift: Shaped[np.ndarray, "k 2"],
) -> Float32[np.ndarray, "k h w"]:
    """The distance fields of the chosen glyphs at each image pixel, bilinear, in canvas pixels."""
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    pixels = np.stack(np.meshgrid(axis, axis), axis=-1)
    points = np.einsum("kij,khwj->khwi", inverses, pixels - shift[:, None, None, :]).astype(np.float32)
    points = np.clip(points + glyphs.centre[chosen][:, None, None, :], 0, CANVAS - 1.001)
    corner = points.astype(np.int32)
    x, y = np.moveaxis(points - corner.astype(np.float32), -1, 0)
    flat = glyphs.distance.reshape(-1)
    index = chosen[:, None, None] * CANVAS**2 + corner[..., 1] * CANVAS + corner[..., 0]
    upper = flat[index] * (1 - x) + flat[index + 1] * x
    lower = flat[index + CANVAS] * (1 - x) + flat[index + CANVAS + 1] * x
    return upper * (1 - y) + lower * y
