"""jit for functions of a config: one program for each structure."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

import jax

from jaxgan.config import Config

P = ParamSpec("P")
R = TypeVar("R")


class Compiled(Generic[P, R]):
    """A function of (config, ...) that is compiled once for each `config.structure`, whatever the config's numbers.

    `program` is the jitted function, whose first argument is a structure.
    """

    def __init__(self, function: Callable[Concatenate[Config, P], R], **options: Any) -> None:
        self.program: Any = jax.jit(function, static_argnums=0, **options)
        functools.update_wrapper(self, function)

    def __call__(self, config: Config, *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs the program of the config's structure."""
        return self.program(config.structure, *args, **kwargs)


def compiled(function: Callable[Concatenate[Config, P], R]) -> Compiled[P, R]:
    """Compiles a function of (config, ...), as a decorator."""
    return Compiled(function)
