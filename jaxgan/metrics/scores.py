"""All scores of a set of images, by name: images -> features -> statistics -> scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Shaped, UInt8

from jaxgan.metrics.classes import class_shares, classes_hit, classifier_score, reverse_kl
from jaxgan.metrics.classifier import classify_stacked, scale
from jaxgan.metrics.frechet import Gaussian, fit_gaussian, frechet_distance
from jaxgan.metrics.neighbours import nearest_distances, neighbour_scores, squared_radii
from jaxgan.metrics.network import FeatureNetwork, shipped_network
from jaxgan.metrics.parzen import parzen_score
from jaxgan.metrics.two_sample import two_sample_accuracy

KS = (3, 5)
"""Which nearest neighbour bounds a neighbourhood: 3 in the paper of precision and recall, 5 in that of coverage."""
PARZEN_VALIDATION = 1000
NEAREST = 1000
"""Of how many images the nearest training image is looked up."""

_SHARES_SHOWN = 100

# Two sets may be of different sizes; `_features_and_logits` refuses wrong shapes.
Images = UInt8[Array, "_n _h _w _c"] | UInt8[np.ndarray, "_n _h _w _c"]
Levels = Images | Float[Array, "_n _h _w _c"] | Float[np.ndarray, "_n _h _w _c"]
AnyImages = Shaped[Array, "_n _h _w ..."] | Shaped[np.ndarray, "_n _h _w ..."]

_ROUNDING = 1e-3  # How far floats may be outside of [0, 1].


class Reference(NamedTuple):
    """Real images and what the scores need of them."""

    images: UInt8[Array, "n h w c"]
    features: Float[Array, "n features"]
    radii: Float[Array, "ks n"]
    gaussian: Gaussian
    shares: Float[Array, " classes"]


def score(images: AnyImages, reference: AnyImages, *, network: FeatureNetwork | None = None) -> dict[str, float]:
    """Scores generated images against real ones, by features of a small classifier.

    Args:
        images: Generated images `[n, h, w, c]`, or `[n, h, w]` of one channel: bytes, or floats in [0, 1], which are
            rounded to 256 levels as a file would hold them.
        reference: Real images, likewise; as a rule the test split, and 10,000 of each.
        network: What makes the features; by default the one of MNIST that comes with the package.

    Returns:
        `frechet` (0 is best), `classifier_score`, `precision/3`, `recall/3`, `density/3`, `coverage/3` and the same for
        5, `classes/hit`, `classes/kl`, and the shares of the classes, `share/0` and so on. Images of several channels
        are classified channel by channel (Stacked MNIST): features side by side, a class for each tuple of digits.

    Raises:
        ValueError: A set is too small, not of the shape that the network takes, or has other values.
    """
    network = network or shipped_network()
    images, reference = _checked(images), _checked(reference)
    return feature_scores(network, to_levels(images), measure_reference(network, to_levels(reference)))


def _checked(images: AnyImages) -> Levels:
    """The images with an axis for their channels; pixels of another scale would be clipped in silence."""
    images = jnp.asarray(images)
    if images.ndim not in (3, 4):
        raise ValueError(f"images of shape {images.shape} are not [n, h, w, c] or [n, h, w]")
    if images.ndim == 3:
        images = images[..., None]
    if images.dtype == jnp.uint8:
        return images
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise ValueError(f"images are bytes (uint8) or floats in [0, 1], not {images.dtype}")
    if not jnp.all((images >= -_ROUNDING) & (images <= 1 + _ROUNDING)):  # NaN is neither.
        found = np.asarray(images)  # XLA's least and greatest pass over NaN.
        raise ValueError(f"images of floats are in [0, 1]; these go from {found.min():g} to {found.max():g}")
    return images


def to_levels(images: Levels) -> UInt8[Array, "n h w c"]:
    """Images on 256 levels; floats in [0, 1] are rounded to them."""
    images = jnp.asarray(images)
    if images.dtype == jnp.uint8:
        return images
    return jnp.rint(jnp.clip(images, 0.0, 1.0) * 255.0).astype(jnp.uint8)


def measure_reference(network: FeatureNetwork, images: UInt8[Array, "n h w c"]) -> Reference:
    """What the scores need of real images.

    A class that none of them has counts as half an image: 5,000 images of 1,000 classes may miss a few by chance, which
    would put any generator that has them infinitely far away.
    """
    features, logits = _features_and_logits(network, images)
    # Centred as `neighbour_scores` does it.
    radii = squared_radii(features - features.mean(axis=0)[None], KS)
    shares = jnp.maximum(_class_shares(logits), 0.5 / len(images))
    return Reference(images, features, radii, fit_gaussian(features), shares / shares.sum())


def feature_scores(network: FeatureNetwork, images: UInt8[Array, "n h w c"], reference: Reference) -> dict[str, float]:
    """The scores that `score` returns, against real images that are measured already."""
    features, logits = _features_and_logits(network, images)
    shares = _class_shares(logits)
    scores: dict[str, Array] = {
        "frechet": frechet_distance(reference.gaussian, fit_gaussian(features)),
        "classifier_score": classifier_score(logits),
    }
    for k, of_k in neighbour_scores(reference.features, features, KS, reference.radii).items():
        scores |= {f"{name}/{k}": value for name, value in of_k._asdict().items()}
    scores |= {"classes/hit": classes_hit(shares), "classes/kl": reverse_kl(shares, reference.shares)}
    if len(shares) <= _SHARES_SHOWN:
        scores |= {f"share/{i}": share for i, share in enumerate(shares)}
    return {name: float(value) for name, value in scores.items()}


def pixel_scores(
    images: UInt8[Array, "n h w c"],
    reference: Reference,
    validation: UInt8[Array, "v h w c"],
    training: UInt8[Array, "t h w c"],
) -> dict[str, float]:
    """Scores that look at pixels: Parzen log-likelihood, and the distance to the nearest training image.

    Args:
        images: Generated images.
        reference: Real images, whose likelihood it is.
        validation: Training images that choose the Parzen window.
        training: Images that a generator may have memorised.

    Returns:
        `parzen` in nats, its standard error over the real images `parzen/error`, its width `parzen/sigma`, and
        `nearest`, the mean Euclidean distance of the first NEAREST images (pixels in [0, 1]).
    """
    parzen = parzen_score(_flat(images), _flat(validation[:PARZEN_VALIDATION]), _flat(reference.images))
    nearest = nearest_distances(_flat(images[:NEAREST]), _flat(training)).mean()
    return {
        "parzen": parzen.mean,
        "parzen/error": parzen.error,
        "parzen/sigma": parzen.sigma,
        "nearest": float(nearest),
    }


def two_sample_scores(key: Key[Array, ""], images: UInt8[Array, "n h w c"], reference: Reference) -> dict[str, float]:
    """`two_sample`, the accuracy of a classifier that learnt to tell the images from as many real ones."""
    n = min(len(images), len(reference.images))
    return {"two_sample": two_sample_accuracy(key, reference.images[:n], images[:n])}


def frechet_and_recall(
    network: FeatureNetwork, images: UInt8[Array, "n h w c"], reference: Reference
) -> dict[str, float]:
    """The two scores that a journal follows: `score/frechet`, and `score/recall` for the first of KS."""
    scores = feature_scores(network, images, reference)
    return {"score/frechet": scores["frechet"], "score/recall": scores[f"recall/{KS[0]}"]}


def summarise_draws(draws: list[Mapping[str, float]]) -> dict[str, dict[str, float | None]]:
    """Mean and standard deviation (None for one draw, or an infinite one) of each score over draws of images."""
    table = {name: np.array([draw[name] for draw in draws]) for name in draws[0]}
    spread = {name: len(values) > 1 and np.isfinite(values).all() for name, values in table.items()}
    return {
        name: {"mean": float(values.mean()), "sd": float(values.std(ddof=1)) if spread[name] else None}
        for name, values in table.items()
    }


def _features_and_logits(
    network: FeatureNetwork, images: UInt8[Array, "n h w c"]
) -> tuple[Float[Array, "n features"], Float[Array, "n classes"]]:
    *size, channels = network.record.image_shape
    if list(images.shape[1:3]) != size or images.shape[3] % channels:
        raise ValueError(f"images of {images.shape[1:]} cannot be scored by a network for {network.record.image_shape}")
    if len(images) <= max(KS):
        raise ValueError(f"{len(images)} images are too few to score: neighbourhoods take more than {max(KS)}")
    return classify_stacked(network.params, images, channels)


def _class_shares(logits: Float[Array, "n classes"]) -> Float[Array, " classes"]:
    return class_shares(logits.argmax(axis=1).astype(jnp.int32), logits.shape[1])


def _flat(images: UInt8[Array, "n h w c"]) -> Float[Array, "n pixels"]:
    return scale(images).reshape(images.shape[0], -1)
