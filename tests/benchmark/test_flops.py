from __future__ import annotations

import math
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmark.flops import TOLERANCE, step_bytes, step_flops
from jaxgan.config import Config, DiscriminatorConfig, GeneratorConfig, LatentConfig, ObjectiveConfig
from jaxgan.gan.batches import Batch
from jaxgan.gan.state import init_state
from jaxgan.gan.updates import train_step
from jaxgan.presets import PRESETS

# Layers 3-5-6 and 6-7-1, so that products of any two widths tell which layer they belong to.
SHAPE = (2, 3, 1)
PLAIN = ObjectiveConfig(name="non_saturating", r1=0.0, r2=0.0)
SMALL = Config(
    batch_size=4,
    gen=GeneratorConfig(widths=(5,)),
    disc=DiscriminatorConfig(widths=(7,)),
    latent=LatentConfig(size=3),
    objective=PLAIN,
)
GEN, DISC = 3 * 5 + 5 * 6, 6 * 7 + 7 * 1
# D: fakes; real and fake each forward, kernels' gradients, and the gradient of the one hidden layer. G: forward through
# both, back through D to the images, and to G's kernels and hidden layer.
DISC_UPDATE, GEN_UPDATE = GEN + 2 * (DISC + DISC + 7), GEN + DISC + DISC + GEN + 5 * 6


def compiled_step(config: Config) -> jax.stages.Compiled:
    state = jax.eval_shape(lambda: init_state(config, jax.random.key(0)))
    n = config.real_batch_size
    batch = Batch(jax.ShapeDtypeStruct((n, 28, 28, 1), jnp.float32), jax.ShapeDtypeStruct((n,), jnp.int32))  # pyright: ignore[reportArgumentType]
    lowered = train_step.program.lower(config.structure, state, batch)
    return lowered.compile(compiler_options={"xla_backend_optimization_level": "0"})  # LLVM alone is spared.


def dot_flops(text: str) -> int:
    """The operations of all products that are left in a compiled program's text."""
    shapes = {
        name: [int(n) for n in size.split(",") if n] for name, size in re.findall(r"%([\w.-]+) = \w+\[([\d,]*)\]", text)
    }
    shapes |= {
        name: [int(n) for n in size.split(",") if n] for name, size in re.findall(r"([\w.-]+): \w+\[([\d,]*)\]", text)
    }
    dots = re.findall(r"%([\w.-]+) = \S+ dot\(%([\w.-]+), %[\w.-]+\), lhs_contracting_dims=\{(\d)\}", text)
    return sum(2 * math.prod(shapes[out]) * shapes[left][int(axis)] for out, left, axis in dots)


def test_a_plain_step_has_the_products_that_one_counts_by_hand() -> None:
    assert step_flops(SMALL, SHAPE) == 2 * 4 * (DISC_UPDATE + GEN_UPDATE)


def test_vanilla_takes_the_267_megaflop_that_the_documents_speak_of() -> None:
    assert round(step_flops(PRESETS["vanilla"]) / 1e6) == 267


def test_shared_latents_are_drawn_once() -> None:
    shared = replace(SMALL, latent=LatentConfig(size=3, shared=True))
    assert step_flops(SMALL, SHAPE) - step_flops(shared, SHAPE) == 2 * 4 * GEN


def test_halves_show_d_half_of_the_images() -> None:
    halves = replace(SMALL, objective=replace(PLAIN, updates="halves"))
    assert step_flops(halves, SHAPE) == 2 * (2 * DISC_UPDATE + 4 * GEN_UPDATE)


def test_penalties_take_two_more_passes_through_hidden_layers_and_mixtures_four() -> None:
    def extra(**weights: float) -> int:
        return step_flops(replace(SMALL, objective=replace(PLAIN, **weights)), SHAPE) - step_flops(SMALL, SHAPE)  # pyright: ignore[reportArgumentType]

    # Back to the images and forward again, in place of the way back through the layer of 7 x 1 alone.
    each = 2 * 6 * 7 - 7
    assert extra(r1=1.0) == 2 * 4 * each
    assert extra(r1=1.0, r2=5.0) == 2 * 4 * 2 * each
    assert extra(gradient_penalty=10.0) == 2 * 4 * 4 * 6 * 7


def test_lazy_penalties_cost_their_share() -> None:
    def flops(every: int, r1: float) -> int:
        return step_flops(replace(SMALL, objective=replace(PLAIN, r1=r1, penalty_every=every)), SHAPE)

    assert flops(4, 0.0) == flops(1, 0.0)
    assert flops(4, 1.0) - flops(1, 0.0) == (flops(1, 1.0) - flops(1, 0.0)) / 4


def test_a_relativistic_generator_looks_at_real_images_too() -> None:
    relativistic = replace(SMALL, objective=replace(PLAIN, name="relativistic"))
    assert step_flops(relativistic, SHAPE) - step_flops(SMALL, SHAPE) == 2 * 4 * DISC


def test_simultaneous_updates_share_fakes_and_answers() -> None:
    def flops(**changes: object) -> int:
        return step_flops(replace(SMALL, objective=replace(PLAIN, updates="simultaneous", **changes)), SHAPE)  # pyright: ignore[reportArgumentType]

    # One way through G, and D's way back to the images; R2 goes that way, too, and has the layer of 7 x 1 in common.
    assert flops() == 2 * 4 * (2 * (DISC + DISC + 7) + GEN + GEN + 5 * 6 + DISC)
    assert flops(r2=1.0) - flops() == 2 * 4 * (2 * 6 * 7 - 7 - DISC)
    assert flops(name="relativistic") == flops()


def test_second_derivatives_of_smooth_activations_are_refused_rather_than_left_out() -> None:
    smooth = replace(SMALL, disc=replace(SMALL.disc, activation="silu"))
    assert step_flops(smooth, SHAPE) == step_flops(SMALL, SHAPE)
    with pytest.raises(ValueError, match="piecewise linear activations, not silu"):
        step_flops(replace(smooth, objective=replace(PLAIN, r1=1.0)))


def test_a_layer_that_is_told_of_its_batch_is_refused_rather_than_left_out() -> None:
    with pytest.raises(ValueError, match=r"without disc\.minibatch_std"):
        step_flops(replace(SMALL, disc=replace(SMALL.disc, minibatch_std=1)))


WASSERSTEIN = ObjectiveConfig(name="wasserstein", r1=0.0, r2=0.0, gradient_penalty=10.0)
COUNTED = {name: PRESETS[name] for name in ("vanilla", "deep-batchnorm", "modern")}
COUNTED |= {
    f"{name}, simultaneous": replace(preset, objective=replace(preset.objective, updates="simultaneous"))
    for name, preset in (("vanilla", PRESETS["vanilla"]), ("modern", PRESETS["modern"]))
}
COUNTED["wasserstein"] = replace(PRESETS["gaussian-leaky"], objective=WASSERSTEIN)


@pytest.mark.parametrize("name", COUNTED)
def test_xla_does_these_products_and_counts_at_most_a_tenth_of_element_wise_work_more(name: str) -> None:
    compiled, ours = compiled_step(COUNTED[name]), step_flops(COUNTED[name])
    assert ours <= compiled.cost_analysis()["flops"] <= (1.0 + TOLERANCE) * ours  # pyright: ignore[reportOptionalSubscript]
    # XLA may turn products with the one output unit into element-wise work: they are below a thousandth of all.
    assert 0.999 * ours <= dot_flops(compiled.as_text() or "") <= ours


UNCONDITIONAL = {name: replace(preset, conditional=False) for name, preset in PRESETS.items()}
UNCONDITIONAL["told"] = replace(PRESETS["modern"], disc=replace(PRESETS["modern"].disc, minibatch_std=2))


@pytest.mark.parametrize("name", UNCONDITIONAL)
def test_the_least_bytes_are_those_of_the_state_twice_and_of_a_batch(name: str) -> None:
    config = UNCONDITIONAL[name]
    state = jax.eval_shape(lambda: init_state(config, jax.random.key(0)))
    learned = jax.tree.leaves((state.params, state.opt_state, state.batch_stats, state.average))
    size = sum(4 * math.prod(leaf.shape) for leaf in learned if leaf.shape)  # Without Adam's counts.
    assert step_bytes(config) == 2 * size + config.real_batch_size * 784
