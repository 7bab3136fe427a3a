from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_runs import TINY_SHAPE, tiny

from jaxgan.gan.sampling import discriminate, draw_latents, generate, sample_latents
from jaxgan.gan.state import TrainState, init_state

CONFIG = tiny(gen__batch_norm=True)


@pytest.fixture(scope="module")
def state() -> TrainState:
    """A state whose average and moving averages are not what they start as."""
    state = init_state(CONFIG, jax.random.key(0), TINY_SHAPE)
    stats = jax.tree.map(lambda leaf: leaf + 0.5, state.batch_stats)
    return state._replace(average=jax.tree.map(lambda leaf: 2.0 * leaf + 0.1, state.average), batch_stats=stats)


@pytest.mark.parametrize(("prior", "std"), [("normal", 1.0), ("uniform", 1 / np.sqrt(3))])
def test_latents_have_the_moments_and_the_range_of_their_prior(prior: Literal["normal", "uniform"], std: float) -> None:
    config = tiny(latent__prior=prior, latent__size=50)
    latents = np.asarray(sample_latents(config, jax.random.key(0), 2000), np.float64)
    assert latents.shape == (2000, 50)
    # Five standard errors of a mean, and of a standard deviation.
    assert abs(latents.mean()) < 5 * std / np.sqrt(latents.size)
    assert abs(latents.std() / std - 1) < 5 / np.sqrt(2 * latents.size)
    if prior == "uniform":
        assert -1 <= latents.min() < -0.999
        assert 0.999 < latents.max() <= 1
    else:
        assert latents.min() < -4
        assert latents.max() > 4
    correlations = np.corrcoef(latents.T) - np.eye(50)
    assert np.abs(correlations).max() < 6 / np.sqrt(2000)


def test_images_are_in_the_unit_range_and_as_many_as_asked_for(state: TrainState) -> None:
    images = generate(CONFIG, state, jax.random.key(1), 6)
    assert images.shape == (6, *TINY_SHAPE)
    assert images.dtype == jnp.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert images.std() > 0.01


def test_a_key_draws_the_same_images_again_and_another_key_draws_others(state: TrainState) -> None:
    first, again, other = (generate(CONFIG, state, jax.random.key(seed), 6) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any(axis=(1, 2, 3)).all()


def test_images_of_given_latents_do_not_depend_on_the_key(state: TrainState) -> None:
    latents = sample_latents(CONFIG, jax.random.key(1), 6)
    drawn = generate(CONFIG, state, jax.random.key(1), 6)
    given = generate(CONFIG, state, jax.random.key(9), 6, latents=latents)
    np.testing.assert_array_equal(given, drawn)


def test_a_scale_moves_the_latents_of_samples_and_not_those_that_are_given(state: TrainState) -> None:
    key, wide = jax.random.key(1), tiny(gen__batch_norm=True, latent__scale=1.5)
    latents = sample_latents(CONFIG, key, 6)
    np.testing.assert_array_equal(sample_latents(wide, key, 6), latents)
    np.testing.assert_array_equal(draw_latents(CONFIG, key, 6), latents)
    np.testing.assert_allclose(draw_latents(wide, key, 6), 1.5 * np.asarray(latents), rtol=1e-7)
    drawn = generate(wide, state, key, 6)
    np.testing.assert_allclose(drawn, generate(CONFIG, state, key, 6, latents=1.5 * latents), rtol=1e-6)
    assert (drawn != generate(CONFIG, state, key, 6)).any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(
        generate(wide, state, key, 6, latents=latents), generate(CONFIG, state, key, 6, latents=latents)
    )


def test_an_image_depends_on_its_own_latents_only(state: TrainState) -> None:
    latents = sample_latents(CONFIG, jax.random.key(1), 6)
    others = latents.at[1:].multiply(-3.0)
    key = jax.random.key(0)
    np.testing.assert_array_equal(
        generate(CONFIG, state, key, 6, latents)[0], generate(CONFIG, state, key, 6, others)[0]
    )


def test_images_come_from_the_average_where_it_is_kept(state: TrainState) -> None:
    key = jax.random.key(1)
    averaged = generate(CONFIG, state, key, 6)
    moved = state._replace(params=state.params._replace(gen=jax.tree.map(jnp.zeros_like, state.params.gen)))
    np.testing.assert_array_equal(generate(CONFIG, moved, key, 6), averaged)
    without = tiny(gen__batch_norm=True, average_decay=0.0)
    plain = state._replace(params=state.params._replace(gen=state.average), average=None)
    np.testing.assert_array_equal(generate(without, plain, key, 6), averaged)
    assert (generate(without, state._replace(average=None), key, 6) != averaged).any()


def test_images_do_not_consume_the_state(state: TrainState) -> None:
    generate(CONFIG, state, jax.random.key(1), 6)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(state))


def test_a_wrong_number_of_latents_is_refused(state: TrainState) -> None:
    latents = sample_latents(CONFIG, jax.random.key(1), 5)
    with pytest.raises(ValueError, match="latents: there are 5, not n = 6"):
        generate(CONFIG, state, jax.random.key(0), 6, latents=latents)


def test_the_discriminator_judges_images_of_the_unit_range(state: TrainState) -> None:
    images = generate(CONFIG, state, jax.random.key(1), 6)
    disc = state.params.disc
    x = 2 * np.asarray(images, np.float64).reshape(6, 16) - 1  # The range of tanh, which D trains on.
    for i in range(2):
        x = x @ np.asarray(disc[f"hidden_{i}"]["kernel"]) + np.asarray(disc[f"hidden_{i}"]["bias"])
        x = np.where(x > 0, x, 0.2 * x)
    # Sums of at most sixteen float32 products of size one.
    np.testing.assert_allclose(
        discriminate(CONFIG, state, images), (x @ np.asarray(disc["output"]["kernel"]))[:, 0], rtol=1e-4, atol=1e-6
    )
