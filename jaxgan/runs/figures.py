"""Pictures: grids of samples, their film, and the curves of a run."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from jaxgan.config import Config, InputError
from jaxgan.gan.objectives import equilibrium
from jaxgan.runs.directory import write_atomically

MAX_FRAMES = 100
PADDING = 1
_TARGET_SIDE = 448  # Pixels that a grid is about as wide as.
_CAPTION_HEIGHT = 20
_CURVE_POINTS = 500
_START = 0.02  # The share of a run whose losses, often far above all others, do not set the scale of its plot.
# Sixteen levels of brightness, which nobody misses, make a film half as large.
_FILM_LEVELS = [round(level / 17) * 17 for level in range(256)]


def to_bytes(images: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Maps images in [0, 1] to the 256 levels of a picture; NaN is black."""
    return np.rint(np.clip(np.nan_to_num(images), 0.0, 1.0) * 255.0).astype(np.uint8)


def grid(images: UInt8[np.ndarray, "n h w c"], columns: int, scale: int) -> Image.Image:
    """Images row by row with a thin line between them, every pixel `scale` wide."""
    n, height, width, channels = images.shape
    rows = math.ceil(n / columns)
    canvas = np.zeros((rows * (height + PADDING) - PADDING, columns * (width + PADDING) - PADDING, channels), np.uint8)
    canvas += 64
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + PADDING), (i % columns) * (width + PADDING)
        canvas[top : top + height, left : left + width] = image
    picture = to_picture(canvas)
    return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)


def to_picture(image: UInt8[np.ndarray, "h w c"]) -> Image.Image:
    """One grey (1 channel) or colour (3 channels) image as a picture."""
    return Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)


def grid_scale(columns: int, width: int) -> int:
    """The whole number of pixels a pixel that makes a grid about 450 wide."""
    return max(1, _TARGET_SIDE // (columns * width))


def encode_samples(images: Float[np.ndarray, "n h w c"], logits: Float[np.ndarray, " n"], step: int) -> bytes:
    """A square grid of images in [0, 1] as PNG, with its step and D's logits in the file's text."""
    columns = math.isqrt(images.shape[0])
    text = PngImagePlugin.PngInfo()
    text.add_text("step", str(step))
    text.add_text("logits", json.dumps([round(float(logit), 4) for logit in logits]))
    buffer = io.BytesIO()
    grid(to_bytes(images), columns, grid_scale(columns, images.shape[2])).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def decode_samples(
    path: Path, image_shape: tuple[int, int, int]
) -> tuple[int, UInt8[np.ndarray, "n h w c"], Float[np.ndarray, " n"]]:
    """(step, images, D's logits) of a file that `encode_samples` made.

    Raises:
        InputError: It is damaged, or no such file.
    """
    height, width, channels = image_shape
    try:
        with Image.open(path) as picture:
            picture.load()
            step, logits = int(picture.info["step"]), np.array(json.loads(picture.info["logits"]), np.float32)
            pixels = np.asarray(picture)
        columns = math.isqrt(len(logits))
        scale = grid_scale(columns, width)
        small = pixels[::scale, ::scale].reshape(-1, columns * (width + PADDING) - PADDING, channels)
        corners = [(y * (height + PADDING), x * (width + PADDING)) for y in range(columns) for x in range(columns)]
        return step, np.stack([small[y : y + height, x : x + width] for y, x in corners]), logits
    except (OSError, ValueError, KeyError, TypeError, SyntaxError) as error:  # Pillow raises any of these.
        raise InputError(f"{path} is not a picture of samples ({type(error).__name__}): remove it") from error


def write_film(paths: list[Path], captions: list[str], target: Path) -> None:
    """An animated GIF of pictures of one size, evenly thinned to at most MAX_FRAMES, each with a caption below it."""
    chosen = np.unique(np.linspace(0, len(paths) - 1, min(MAX_FRAMES, len(paths))).round().astype(int))
    frames = [_captioned(paths[i], captions[i]) for i in chosen]
    milliseconds = max(40, 8000 // len(frames))
    write_atomically(target, encode_gif(frames, milliseconds, rest=1500))


def encode_gif(frames: list[Image.Image], milliseconds: int, rest: int = 0) -> bytes:
    """Frames as an endless GIF, each for some milliseconds, the last for `rest` more."""
    frames = [frame.point(_FILM_LEVELS * len(frame.getbands())) for frame in frames]
    durations = [milliseconds] * (len(frames) - 1) + [milliseconds + rest]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True)
    return buffer.getvalue()


def encode_array(array: np.ndarray) -> bytes:
    """A .npy file of images; a single channel is dropped."""
    buffer = io.BytesIO()
    np.save(buffer, array[..., 0] if array.shape[-1] == 1 else array, allow_pickle=False)
    return buffer.getvalue()


def encode_grid(images: UInt8[np.ndarray, "n h w c"]) -> bytes:
    """A PNG of all images, about as many rows as columns."""
    columns = math.ceil(math.sqrt(images.shape[0]))
    buffer = io.BytesIO()
    grid(images, columns, grid_scale(columns, images.shape[2])).save(buffer, "PNG")
    return buffer.getvalue()


def _captioned(path: Path, caption: str) -> Image.Image:
    with Image.open(path) as picture:
        frame = Image.new(picture.mode, (picture.width, picture.height + _CAPTION_HEIGHT))
        frame.paste(picture, (0, 0))
    white = 255 if frame.mode == "L" else (255, 255, 255)
    ImageDraw.Draw(frame).text((4, frame.height - 17), caption, fill=white, font=ImageFont.load_default(13))
    return frame


def write_curves(rows: list[dict[str, float]], config: Config, target: Path) -> None:
    """Draws both players' losses and D's probabilities over the steps, with the lines of the equilibrium.

    Args:
        rows: Journal rows, each with `step`; not empty.
        config: Whose objective gives the lines.
        target: A file that ends in .png.
    """
    from matplotlib.figure import Figure  # Takes half a second, which only the end of a run pays.

    probabilities = all({"prob/real", "prob/fake"} <= row.keys() for row in rows)
    figure = Figure(figsize=(9, 6.5 if probabilities else 4), layout="constrained")
    panels = figure.subplots(2 if probabilities else 1, 1, sharex=True, squeeze=False)[:, 0]
    steps = np.array([row["step"] for row in rows])
    plots = [("loss/disc", "D loss", "C0", 0), ("loss/gen", "G loss", "C1", 0)]
    if probabilities:
        plots += [("prob/real", "D(real)", "C2", 1), ("prob/fake", "D(fake)", "C3", 1)]
    lines = equilibrium(config)
    panels[0].set_ylim(*loss_limits(rows, [lines[name] for name, *_ in plots[:2] if name in lines]))
    for name, label, colour, panel in plots:
        values = np.array([row[name] for row in rows])
        panels[panel].plot(steps, values, color=colour, alpha=0.25, linewidth=0.6)
        panels[panel].plot(*_running_mean(steps, values), color=colour, label=label)
        if name in lines and name != "prob/fake":  # Both probabilities share their line.
            style = {"color": colour if panel == 0 else "black", "linestyle": "--", "linewidth": 1}
            panels[panel].axhline(lines[name], label=f"at equilibrium:\n{_name(lines[name])}", **style)
    panels[0].set_ylabel("loss")
    if probabilities:
        panels[1].set_ylabel("probability")
        panels[1].set_ylim(-0.02, 1.02)
    panels[-1].set_xlabel("step")
    for panel in panels:
        panel.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize="small", frameon=False)
        panel.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110)
    write_atomically(target, buffer.getvalue())


def loss_limits(rows: list[dict[str, float]], lines: list[float]) -> tuple[float, float]:
    """Least and most of the axis on which both players' losses and the lines of their equilibrium are all seen.

    Only the first steps of a run may be outside, where they are beyond all that follows.
    """
    after = [row for row in rows if row["step"] >= _START * rows[-1]["step"]]
    values = [*lines, *(row[name] for row in after for name in ("loss/disc", "loss/gen"))]
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    margin = 0.05 * (max(finite) - min(finite)) or 0.5
    return min(finite) - margin, max(finite) + margin


def _running_mean(
    steps: Float[np.ndarray, " n"] | np.ndarray, values: Float[np.ndarray, " n"]
) -> tuple[np.ndarray, np.ndarray]:
    """Means of neighbours, at most _CURVE_POINTS of them."""
    pieces = min(_CURVE_POINTS, len(values) if len(values) < 100 else len(values) // 5)
    return (
        np.array([piece.mean() for piece in np.array_split(steps, pieces)]),
        np.array([piece.mean() for piece in np.array_split(values, pieces)]),
    )


def _name(value: float) -> str:
    known = {2 * math.log(2): "2 ln 2", math.log(2): "ln 2", -math.log(2): "-ln 2", 0.5: "1/2"}
    for number, name in known.items():
        if math.isclose(value, number):
            return f"{name} = {value:.3f}"
    return f"{value:.3f}"
