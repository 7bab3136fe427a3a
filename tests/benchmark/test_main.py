from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_up import FACTS, found
from running import complaint, environment

from experiments.benchmark import __main__ as benchmark
from experiments.benchmark import machine, results

ROOT = Path(__file__).parents[2]


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the questions find; nothing is measured and no data is loaded."""
    answers = found()
    monkeypatch.setattr(benchmark, "prepared", lambda settings, data: nullcontext())
    monkeypatch.setattr(machine, "describe", lambda: FACTS)

    def module(name: str) -> SimpleNamespace:
        return SimpleNamespace(measure=lambda work: answers[name.rpartition(".")[2]])

    monkeypatch.setattr(benchmark, "import_module", module)
    return answers


def test_all_questions_are_answered_and_written(
    questions: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert benchmark.main(["--results", str(tmp_path)]) == 0
    assert "Steps per second, beside peers:" in capsys.readouterr().out
    (path,) = tmp_path.iterdir()
    sections = results.read(path)["sections"]
    assert set(sections) == set(questions)
    assert sections["steps"]["command"] == "python -m experiments.benchmark"
    assert sections["steps"]["settings"]["repeats"] == 5


def test_a_failed_check_is_told_ends_with_1_and_is_not_written(
    questions: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions["steps"]["failures"] = ["vanilla, PyTorch eager: loss/gen is 2, ours 1"]
    assert benchmark.main(["steps", "start", "--results", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "benchmark: failed: vanilla, PyTorch eager: loss/gen is 2, ours 1\n"
    (path,) = tmp_path.iterdir()
    assert set(results.read(path)["sections"]) == {"start"}


@pytest.mark.usefixtures("questions")
def test_a_quick_run_writes_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path / "results")
    assert benchmark.main(["--quick"]) == 0
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["steps", "--systems", "vanila"], "--systems vanila is none of vanilla, "),
        (["steps", "--peers", "jax"], "--peers jax is none of jaxgan, jax-loop, "),
        (["tables", "limit"], "tables measures nothing: name it alone"),
        (["speed"], "invalid choice 'speed'"),
    ],
)
def test_wrong_input_is_told_in_one_line(arguments: list[str], told: str) -> None:
    line = [sys.executable, "-m", "experiments.benchmark", *arguments]
    done = subprocess.run(line, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    assert told in complaint(done)
