"""Shapes are checked at run time in the whole package, and JAX promotes neither types nor ranks in silence."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# Tests and the commands that they start compile the same small programs again and again: they share a cache of this
# test session's own, which pytest's processes hand on. With a limit JAX locks it.
if "JAXGAN_TEST_PROGRAMS" not in os.environ:
    programs = tempfile.mkdtemp(prefix="jaxgan-tests-")
    atexit.register(shutil.rmtree, programs, ignore_errors=True)
    os.environ |= {
        "JAXGAN_TEST_PROGRAMS": programs,
        "JAX_COMPILATION_CACHE_DIR": programs,
        "JAX_COMPILATION_CACHE_MAX_SIZE": str(2**30),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }

# The hook rewrites modules as they are imported, so it comes before the first import of jaxgan.
# An int stands where a float is annotated, as PEP 484 has it.
install_import_hook("jaxgan", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")

import jax  # noqa: E402
from running import LIGHTLY, SCORED, ScoredRun, finish, prepare_small_data, start  # noqa: E402

jax.config.update("jax_num_cpu_devices", 2)  # For populations; all else runs on the first.
# Only programs that are slow to compile are worth a place among the shared ones: at each new one JAX looks at all.
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
# Most of the time of these tests goes into compiling. Without optimisations it takes a fifth, and programs mean the
# same; `XLA_FLAGS= python -m pytest` leaves them in. Commands that tests start compile as for everybody where a test
# says nothing else.
if "XLA_FLAGS" not in os.environ:
    jax.config.update("jax_disable_most_optimizations", True)
    os.environ |= LIGHTLY
    jax.devices()  # XLA reads its flags once, here.
    del os.environ["XLA_FLAGS"]
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
    return ScoredRun(root / "run", data, *finish(start(data, root / "run", *SCORED, compiled=LIGHTLY)))


@pytest.fixture
def scored_copy(scored: ScoredRun, tmp_path: Path) -> Path:
    """A copy of the run, to score and to damage; its data is that of all."""
    subprocess.run(["cp", "-r", str(scored.path), str(tmp_path / "copy")], check=True)
    return tmp_path / "copy"
