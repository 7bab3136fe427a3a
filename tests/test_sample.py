from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from running import complaint, here, prepare_small_data, run, succeed, train_here

from jaxgan import cli
from jaxgan.config import InputError, LatentConfig
from jaxgan.gan.sampling import WALK_PICTURES, generate, walk_latents
from jaxgan.presets import PRESETS
from jaxgan.runs import published
from jaxgan.runs.directory import read_record
from jaxgan.runs.loading import load_run, load_state
from jaxgan.runs.published import load_published
from jaxgan.sample import main, scaled


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sampled")
    flags = ("--num-steps", "40", "--every.checkpoint", "20", "--conditional")
    train_here(prepare_small_data(root / "data"), root / "run", *flags)
    return root / "run"


def sample(trained: Path, out: Path, *arguments: object) -> str:
    return succeed(run("sample", trained, "--out", out, *arguments))


def sample_here(trained: Path, out: Path, *arguments: str) -> str:
    """The same without a process of its own."""
    return succeed(here("sample", trained, "--out", out, *arguments))


def test_npy_holds_float32_images_in_the_unit_interval(trained: Path, tmp_path: Path) -> None:
    text = sample_here(trained, tmp_path / "deep" / "a.npy", "--num", "10000")
    assert "10,000 images from step 40" in text
    images = np.load(tmp_path / "deep" / "a.npy", allow_pickle=False)
    assert images.shape == (10_000, 28, 28)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert len({image.tobytes() for image in images}) > 9_990


def test_a_sample_is_what_generate_makes_of_the_checkpoint_and_the_seed_and_the_same_bits_every_time(
    trained: Path, tmp_path: Path
) -> None:
    record = read_record(trained)
    drawn = {}
    for name, step, seed, given in (
        ("newest", 40, 0, ()),
        ("again", 40, 0, ()),
        ("chosen", 20, 7, ("--seed", "7", "--checkpoint", "20")),
    ):
        sample(trained, tmp_path / f"{name}.npy", "--num", "5", *given)
        drawn[name] = np.load(tmp_path / f"{name}.npy")
        expected = generate(record.config, load_state(trained, record, step), jax.random.key(seed), 5)
        # Another batch, other rounding.
        np.testing.assert_allclose(drawn[name], expected[..., 0], atol=1e-6)
    assert np.array_equal(drawn["newest"], drawn["again"])
    # Neither the seed nor the checkpoint alone makes the images that both chose.
    for step, seed in ((20, 0), (40, 7)):
        other = generate(record.config, load_state(trained, record, step), jax.random.key(seed), 5)
        assert np.abs(drawn["chosen"] - other[..., 0]).max() > 0.01


def test_a_png_is_a_grid_and_a_folder_a_file_an_image(trained: Path, tmp_path: Path) -> None:
    sample_here(trained, tmp_path / "grid.png", "--num", "10")
    with Image.open(tmp_path / "grid.png") as grid:
        # 4 columns and 3 rows of 28 pixels with a line of 1 between them, each pixel 4 wide.
        assert grid.size == (4 * (4 * 29 - 1), 4 * (3 * 29 - 1))
    sample_here(trained, tmp_path / "folder", "--num", "12")
    names = sorted(path.name for path in (tmp_path / "folder").iterdir())
    assert names == [f"{i:02d}.png" for i in range(12)]
    sample_here(trained, tmp_path / "same.npy", "--num", "12")
    with Image.open(tmp_path / "folder" / "07.png") as image:
        assert image.size == (28, 28)
        assert np.abs(np.asarray(image) / 255 - np.load(tmp_path / "same.npy")[7]).max() <= 0.5 / 255 + 1e-6


def test_a_gif_is_a_walk_of_as_many_pictures(trained: Path, tmp_path: Path) -> None:
    sample_here(trained, tmp_path / "walk.gif", "--num", "20")
    with Image.open(tmp_path / "walk.gif") as film:
        assert getattr(film, "n_frames", 1) == 20
    sample_here(trained, tmp_path / "walk.npy", "--num", "20", "--interpolate")
    walk = np.load(tmp_path / "walk.npy")
    sample_here(trained, tmp_path / "apart.npy", "--num", "20")
    apart = np.load(tmp_path / "apart.npy")
    assert np.abs(np.diff(walk, axis=0)).mean() < 0.5 * np.abs(np.diff(apart, axis=0)).mean()


def test_labels_are_drawn_one_after_the_other_and_again_from_the_first(trained: Path, tmp_path: Path) -> None:
    sample_here(trained, tmp_path / "chosen.npy", "--num", "5", "--labels", "7", "0")
    record = read_record(trained)
    labels, state = jnp.array([7, 0, 7, 0, 7]), load_state(trained, record, None)
    expected = generate(record.config, state, jax.random.key(0), 5, labels=labels)
    np.testing.assert_array_equal(np.load(tmp_path / "chosen.npy"), expected[..., 0])
    sample_here(trained, tmp_path / "drawn.npy", "--num", "5")
    assert (np.load(tmp_path / "drawn.npy") != np.load(tmp_path / "chosen.npy")).any()


def test_a_walk_stays_with_the_label_that_is_asked_for(trained: Path, tmp_path: Path) -> None:
    sample_here(trained, tmp_path / "walk.npy", "--num", "20", "--interpolate", "--labels", "3")
    record = read_record(trained)
    state, key = load_state(trained, record, None), jax.random.key(0)
    latents = walk_latents(record.config, key, 20)
    expected = generate(record.config, state, key, 20, latents=latents, labels=jnp.full(20, 3))
    np.testing.assert_allclose(np.load(tmp_path / "walk.npy"), expected[..., 0], atol=1e-6)


def test_labels_of_a_generator_that_was_trained_without_are_refused() -> None:
    with pytest.raises(InputError, match="--labels: modern was trained without labels"):
        main(["modern", "--labels", "3"])


@pytest.mark.parametrize("n", [5 * WALK_PICTURES, WALK_PICTURES, 20])
@pytest.mark.parametrize("prior", ["normal", "uniform"])
def test_a_walk_is_closed_smooth_and_stays_where_the_prior_is_likely(prior: str, n: int) -> None:
    config = replace(
        PRESETS["modern"], latent=LatentConfig(size=100, prior="normal" if prior == "normal" else "uniform")
    )
    walk = np.asarray(walk_latents(config, jax.random.key(0), n))
    assert walk.shape == (n, 100)
    steps = np.linalg.norm(np.roll(walk, -1, axis=0) - walk, axis=1)
    assert steps.max() < 3 * steps.mean()
    assert steps.min() > 0.2 * steps.mean()
    norms = np.linalg.norm(walk, axis=1)
    if prior == "normal":
        # The norms of normal vectors of 100 numbers are 10 +- 0.7; a straight line would come down to about 7.
        assert norms.min() > 8
    else:
        assert np.abs(walk).max() <= 1


def test_scales_are_those_of_the_run_or_of_the_command_and_move_walks_too() -> None:
    config = replace(PRESETS["modern"], latent=LatentConfig(scale=1.2))
    assert scaled(config, None, None) == config
    assert scaled(config, 0.7, None) == replace(config, latent=LatentConfig(scale=0.7))
    walk, wider = (walk_latents(scaled(config, scale, None), jax.random.key(0), 20) for scale in (1.0, 1.2))
    np.testing.assert_allclose(wider, 1.2 * np.asarray(walk), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match=r"--latent\.label-scale: the generator was trained without labels"):
        scaled(config, None, 1.5)
    conditional = replace(config, conditional=True)
    assert scaled(conditional, None, 1.5) == replace(conditional, latent=LatentConfig(scale=1.2, label_scale=1.5))


def test_spherical_interpolation_keeps_the_norm_and_the_angle() -> None:
    config = PRESETS["modern"]
    walk = np.asarray(walk_latents(config, jax.random.key(0), 2 * WALK_PICTURES))
    start, end = walk[0], walk[WALK_PICTURES]
    angle = np.arccos(start @ end / np.linalg.norm(start) / np.linalg.norm(end))
    for i in range(WALK_PICTURES):
        share = i / WALK_PICTURES
        expected = (np.sin((1 - share) * angle) * start + np.sin(share * angle) * end) / np.sin(angle)
        np.testing.assert_allclose(walk[i], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_shortest_walks_go_from_one_latent_to_another(n: int) -> None:
    walk = walk_latents(PRESETS["modern"], jax.random.key(0), n)
    assert walk.shape == (n, 100)
    assert bool(jnp.isfinite(walk).all())
    assert len(np.unique(np.asarray(walk), axis=0)) == n


BAD = [
    (["--num", "0"], "--num"),
    (["--num", "some"], "--num"),
    (["--seed", "-1"], "--seed"),
    (["--labels", "10"], "0 to 9, not 10"),
    (["--labels", "3", "-1"], "0 to 9, not 3 -1"),
    (["--labels"], "0 to 9, not nothing"),
    (["--latent.scale", "0"], "--latent.scale must be above 0 and at most 1000, not 0.0"),
    (["--latent.label-scale", "-2"], "--latent.label-scale must be above 0 and at most 1000, not -2.0"),
    (["--out", "picture.jpeg"], "picture.jpeg"),
    (["--checkpoint", "7"], "20, 40"),
    (["--no-such-flag"], "--no-such-flag"),
    (["--num", "20000", "--out", "big.png"], "--num 20000"),
]


@pytest.mark.parametrize(
    ("arguments", "named"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_bad_flag_is_refused(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as refused:
        main([str(trained), *arguments])
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_taken_or_no_run_is_refused_in_one_line(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_settle", lambda: None)  # This process belongs to the tests.
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("precious")
    assert "full" in complaint(run("sample", trained, "--out", tmp_path / "full"))
    for out, flag in (("mine.txt/a.png", "--out "), ("mine.txt/b/a.png", "--out "), ("n" * 300 + ".png", "")):
        monkeypatch.setattr(sys, "argv", ["sample", str(trained), "--out", str(tmp_path / "full" / out)])
        capsys.readouterr()
        with pytest.raises(SystemExit, match=r"^2$"):
            cli.run(main)
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"jaxgan: error: {flag}{tmp_path / 'full' / out}")
    assert (tmp_path / "full" / "mine.txt").read_text() == "precious"
    assert "holds no run" in complaint(run("sample", tmp_path))
    assert "RUN" in complaint(run("sample")).upper()


@pytest.mark.parametrize("name", ["modern", "best"])
def test_published_generators_are_sampled_right_after_installing(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([name, "--num", "5", "--out", "a.npy"]) == 0
    assert f"of {name} to a.npy" in capsys.readouterr().out
    drawn = np.load(tmp_path / "a.npy", allow_pickle=False)
    record, state = load_published(name)
    np.testing.assert_array_equal(drawn, generate(record.config, state, jax.random.key(0), 5)[..., 0])
    with pytest.raises(InputError, match=f"--checkpoint 5: the published generator {name} has none to choose from"):
        main([name, "--out", "b.npy", "--checkpoint", "5"])
    # A folder of that name is in nobody's way; a run of that name comes first.
    (tmp_path / name).mkdir()
    assert main([name, "--num", "5", "--out", "a.npy"]) == 0
    (tmp_path / name / "sweep.json").write_text("{}")
    with pytest.raises(InputError, match="sweep"):
        main([name, "--out", "b.npy"])
    (tmp_path / name / "sweep.json").rename(tmp_path / name / "config.json")
    with pytest.raises(InputError, match=f"{name}/config.json is damaged"):
        main([name, "--out", "b.npy"])


def test_a_damaged_published_generator_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "modern.npz").write_bytes(b"half")
    monkeypatch.setattr(published, "_FOLDER", tmp_path)
    with pytest.raises(InputError, match="the published generator modern is damaged: install jaxgan again"):
        main(["modern", "--out", str(tmp_path / "a.npy")])


@pytest.mark.parametrize("checkpoint", [None, 20])
def test_a_run_is_opened_in_python_to_what_sample_draws(trained: Path, tmp_path: Path, checkpoint: int | None) -> None:
    config, state = load_run(str(trained), checkpoint)
    assert (config, int(state.step)) == (read_record(trained).config, checkpoint or 40)
    sample_here(trained, tmp_path / "a.npy", "--num", "5", *(("--checkpoint", "20") if checkpoint else ()))
    drawn = np.load(tmp_path / "a.npy", allow_pickle=False)
    np.testing.assert_array_equal(drawn, generate(config, state, jax.random.key(0), 5)[..., 0])


def test_a_published_generator_is_opened_in_python_by_its_name(tmp_path: Path) -> None:
    config, state = load_run("modern")
    assert (config.num_steps, int(state.step)) == (PRESETS["modern"].num_steps,) * 2
    (tmp_path / "modern").mkdir()
    with pytest.raises(InputError, match="holds no run"):
        load_run(tmp_path / "modern")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Bset", r"no published generator of that name \(best, modern\); did you mean best\?"),
        ("./best", r"no published generator of that name \(best, modern\); did you mean best\?"),
        ("vanilla", r"no published generator of that name \(best, modern\); python -m jaxgan.train makes runs"),
    ],
)
def test_a_run_that_is_not_there_is_told_with_what_there_is(
    name: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"there is no run {name}\b.*{told}"):
        load_run(name)
