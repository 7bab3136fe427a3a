from __future__ import annotations

from typing import Any

import pytest
from made_up import FACTS, found

from experiments.benchmark import goals
from experiments.benchmark.stats import spread


def rows(facts: dict[str, Any], **changes: Any) -> dict[str, list[str]]:
    """What stands behind each goal: wished for, measured, verdict."""
    sections = {name: {"found": each} for name, each in {**found(), **changes}.items()}
    table = [line for line in goals.lines(facts, sections) if line.startswith("| ")][1:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {what: rest for what, *rest in cells}


def test_goals_are_met_missed_or_open_by_the_figures_of_the_sections() -> None:
    assert rows(FACTS) == {
        "`vanilla`, steps/s over the fastest peer's": [">= 2.50", "2.00", "missed"],
        "`vanilla`, share of the matmul rate": [">= 80%", "50%", "missed"],
        "`modern`, share of the matmul rate": [">= 80%", "", "open"],
        "`jaxgan.train vanilla`, whole process over bare steps": ["<= 5.0%", "+5.0%", "met"],
        "its peak memory, GB": ["<= 1.00", "0.70", "met"],
        "first step of a program, warm cache, s": ["<= 2.50", "1.50", "met"],
        "first step of `jaxgan.train vanilla`, warm cache, s": ["<= 2.50", "", "open"],
        "`modern`, Fréchet distance of 10 after, s": ["<= 45.0", "", "open"],
    }


def test_a_machine_with_an_accelerator_has_goals_of_its_own() -> None:
    rates = {"jaxgan": spread([30_000.0]), "torch-graph": spread([20_000.0])}
    members = {"1": spread([30_000.0]), "256": spread([1_500_000.0])}
    found_here = rows(
        {**FACTS, "device": "NVIDIA H100"},
        steps={**found()["steps"], "systems": {"vanilla": rates}},
        population={"systems": {"vanilla": members}, "missing": {}},
        limit={**found()["limit"], "matmul": spread([1e16])},
    )
    assert found_here == {
        "`vanilla`, steps/s": [">= 33,000", "30,000", "missed"],
        "`vanilla` over PyTorch in a CUDA graph": [">= 1.50", "1.50", "met"],
        "256 members of `vanilla` over a single run": [">= 50.0", "50.0", "met"],
        "their share of the matmul rate": [">= 40%", "30%", "missed"],
    }


def test_nothing_measured_leaves_all_open() -> None:
    for facts in (FACTS, {**FACTS, "device": "NVIDIA H100"}):
        lines = list(goals.lines(facts, {}))
        assert {line.split("|")[-2].strip() for line in lines if line.startswith("| ")} == {"", "open"}


@pytest.mark.parametrize(("matmul", "told"), [(4e11, True), (1e12, False)])
def test_a_wish_for_more_than_the_machine_can_do_is_told(matmul: float, told: bool) -> None:
    # 2.5 times 50 steps/s of 2 GFLOP take 250 GFLOP/s.
    sections = {name: {"found": each} for name, each in found().items()}
    sections["limit"]["found"]["matmul"] = spread([matmul / 2])
    text = "\n".join(goals.lines(FACTS, sections))
    assert (
        "2.5 times the PyTorch eager would be 125 steps/s, where the rate of the large product allows 100." in text
    ) == told
