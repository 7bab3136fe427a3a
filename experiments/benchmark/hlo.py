"""What the instructions of a compiled training program are for, read from its text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

Category = Literal["matmuls", "element-wise and Adam", "random numbers", "gather and scaling"]
CATEGORIES: tuple[Category, ...] = get_args(Category)

_INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?(?P<name>[\w.-]+) = .*? (?P<opcode>[a-z][\w-]*)\(")
_COMPUTATION = re.compile(r"^(?:ENTRY )?%?(?P<name>[\w.-]+) \(.*\{$")
_PRODUCTS = re.compile(r" (dot|convolution)\(|gemm|cublas|__onednn\$matmul")
_RANDOM = re.compile(r"threefry|fold_in|random_|_uniform|_normal|_randint|erf_inv|rng")
_FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call", "conditional"}
_FREE |= {"after-all", "iota", "partition-id", "optimization-barrier"}


class Instruction(NamedTuple):
    """One instruction of a computation."""

    name: str
    opcode: str
    text: str
    computation: str


def instructions(text: str) -> Iterator[Instruction]:
    """All instructions of a compiled program's text."""
    computation = ""
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            computation = header["name"]
        elif found := _INSTRUCTION.match(line):
            yield Instruction(found["name"], found["opcode"], line, computation)


def categories(text: str) -> dict[str, Category]:
    """What each instruction is for, by its name, judged by what it computes and where in the source it comes from.

    Products, and what is fused with them, are matmuls; what draws random numbers for a step is random numbers; what
    the loop does outside of the step's updates (order, gather, scaling, the row of metrics) is gather and scaling; all
    else is element-wise.
    """
    found = list(instructions(text))
    bodies: dict[str, str] = {}
    for each in found:
        bodies[each.computation] = bodies.get(each.computation, "") + each.text + "\n"
    return {each.name: _category(each, bodies) for each in found}


def _category(instruction: Instruction, bodies: dict[str, str]) -> Category:
    called = re.findall(r"calls=%?([\w.-]+)", instruction.text)
    whole = "\n".join([instruction.text, *(bodies.get(name, "") for name in called)])
    if _PRODUCTS.search(whole):
        return "matmuls"
    source = re.search(r'op_name="([^"]*)"', instruction.text)
    path = source[1] if source else ""
    if path and "_update" not in path and "train_step" not in path:
        return "gather and scaling"
    return "random numbers" if _RANDOM.search(path) else "element-wise and Adam"


def kernels(text: str) -> int:
    """Instructions of a compiled program that a GPU would launch a kernel for: about one each.

    Those in the bodies of loops count once, and fused ones as their fusion.
    """
    found = list(instructions(text))
    fused = {name for each in found for name in re.findall(r"(?:calls|to_apply)=%?([\w.-]+)", each.text)}
    called = {
        name for each in found if each.opcode == "call" for name in re.findall(r"to_apply=%?([\w.-]+)", each.text)
    }
    inner = fused - called
    return sum(each.opcode not in _FREE and each.computation not in inner for each in found)
