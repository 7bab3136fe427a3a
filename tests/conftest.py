"""Shapes are checked at run time in the whole package, and JAX promotes neither types nor ranks in silence."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# The hook rewrites modules as they are imported, so it comes before the first import of jaxgan.
# An int stands where a float is annotated, as PEP 484 has it.
install_import_hook("jaxgan", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

import jax  # noqa: E402
from running import SCORED, ScoredRun, finish, prepare_small_data, start  # noqa: E402

jax.config.update("jax_num_cpu_devices", 2)  # For populations; all else runs on the first.
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def mnist_dir() -> Path:
    """The folder with the four gz files of MNIST."""
    folder = Path(__file__).parents[2] / "shared" / "data" / "mnist"
    if not folder.is_dir():
        pytest.skip(f"the files of MNIST are not in {folder}")
    return folder


@pytest.fixture(scope="session")
def scored(tmp_path_factory: pytest.TempPathFactory) -> ScoredRun:
    """A run of 300 steps with `SCORED`, on small data of its own."""
    root = tmp_path_factory.mktemp("scored")
    data = prepare_small_data(root / "data")
    return ScoredRun(root / "run", data, *finish(start(data, root / "run", *SCORED)))


@pytest.fixture
def scored_copy(scored: ScoredRun, tmp_path: Path) -> Path:
    """A copy of the run, to score and to damage; its data is that of all."""
    subprocess.run(["cp", "-r", str(scored.path), str(tmp_path / "copy")], check=True)
    return tmp_path / "copy"
