"""What the source itself must keep to: which way imports run, and that nothing unsafe is read."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "jaxgan"
MODULES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

# Doors -> runs, metrics, data, devices -> gan -> config.
ALLOWED = {
    "config.py": set(),
    "presets.py": {"config"},
    "archive.py": set(),
    "devices.py": {"config", "gan"},
    "hosts.py": {"config", "rendezvous"},
    "rendezvous.py": {"config"},
    "gan": {"config", "gan"},
    "data": {"config", "data", "gan"},
    "metrics": {"archive", "config", "gan", "metrics"},
    "runs": {"archive", "config", "devices", "gan", "hosts", "runs"},
}

DOORS = (
    "__init__.py",
    "cli.py",
    "train.py",
    "sample.py",
    "evaluate.py",
    "yardsticks.py",
    "sweep.py",
    "members.py",
    "__main__.py",
)


def tree(module: str) -> ast.Module:
    return ast.parse((PACKAGE / module).read_text())


def imported(module: str) -> Iterator[str]:
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            module_name = node.module or ""
            # `from jaxgan import hosts` imports a module of the package too.
            yield from (f"jaxgan.{alias.name}" for alias in node.names if module_name == "jaxgan")
            yield module_name


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module: str) -> None:
    room = module.split("/", maxsplit=1)[0]
    own = {name.split(".")[1] for name in imported(module) if name.startswith("jaxgan.")}
    if room in ALLOWED:
        assert own <= ALLOWED[room], own
    else:
        assert room in DOORS, f"{room} is a room that the design has not"


@pytest.mark.parametrize("module", [module for module in MODULES if module.startswith("gan/")])
def test_gan_needs_nothing_but_the_accelerator_image(module: str) -> None:
    roots = {name.split(".")[0] for name in imported(module)}
    assert roots <= {"jax", "flax", "optax", "jaxtyping", "numpy", "jaxgan"} | sys.stdlib_module_names
    assert not roots & {"os", "io", "pathlib", "time", "datetime", "random", "logging"}


@pytest.mark.parametrize("module", MODULES)
def test_nothing_unsafe_is_read(module: str) -> None:
    roots = {name.split(".")[0] for name in imported(module)}
    assert not roots & {"pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "yaml"}
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert name not in ("eval", "exec", "__import__"), f"{module}:{node.lineno}"
            if name in ("np.load", "numpy.load", "jnp.load"):
                flags = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert flags.get("allow_pickle") == "False", f"{module}:{node.lineno}"
