"""The README's commands and its program, taken from its text."""

from __future__ import annotations

import inspect
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running import LIGHTLY, environment, prepare_small_data

from experiments.benchmark import results
from experiments.benchmark import tables as benchmark
from experiments.objectives import __main__ as objectives
from experiments.reproduce import __main__ as reproduce
from jaxgan import cli, evaluate, members, sample, sweep
from jaxgan.presets import DESCRIPTIONS, PRESETS
from jaxgan.train import _parse, split_preset

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("bash") for line in block.splitlines() if "-m jaxgan." in line]


def test_there_are_commands_to_check() -> None:
    assert len(COMMANDS) >= 10


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_understood(line: str) -> None:
    words = shlex.split(line.rsplit("&&", maxsplit=1)[-1], comments=True)
    door, arguments = words[2].removeprefix("jaxgan."), words[3:]
    if door == "sample":
        wanted = cli.parse(sample.Arguments, arguments, usage="sample", description="")
        sample._check(wanted)
    elif door == "evaluate":
        evaluate._check(cli.parse(evaluate.Arguments, arguments, usage="evaluate", description=""))
    elif door == "sweep":
        preset, rest = split_preset(arguments)
        flags = members.split_flags(rest)
        own = [word for name in flags if name in sweep._OWN for word in (name, *flags[name])]
        wanted = cli.parse(sweep.Arguments, own, usage="sweep", description="")
        grid = members.read_grid({name: words for name, words in flags.items() if name not in sweep._OWN})
        assert wanted.resume or members.all_members(PRESETS[preset or "modern"], grid, wanted.seeds, wanted.samples)
    elif "--help" not in arguments:
        assert door == "train"
        preset, rest = split_preset(arguments)
        _parse(PRESETS[preset or "modern"], rest)


def test_the_two_commands_are_what_ci_runs() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    install, test = blocks("bash")[1].split(" && ")[1:]
    assert install.removeprefix(".venv/bin/") in script
    assert test.strip().removeprefix(".venv/bin/") in script


def test_the_program_runs_as_it_stands(tmp_path: Path) -> None:
    (program,) = blocks("python")
    # auto finds no MNIST and no network here; the small set stands where the embedded one would be prepared.
    program = program.replace('PRESETS["vanilla"]', "replace(PRESETS['vanilla'], data=DataConfig('digits', holdout=0))")
    program = "from dataclasses import replace; from jaxgan.config import DataConfig\n" + program
    program += "\nassert images.shape == (1000, 28, 28, 1) and float(images.min()) >= 0 and float(images.max()) <= 1"
    data = prepare_small_data(tmp_path)
    subprocess.run(
        [sys.executable, "-c", program], check=True, env=environment(**LIGHTLY, TFDS_DATA_DIR=str(data)), timeout=120
    )


def test_every_preset_has_a_row_and_a_description() -> None:
    assert set(PRESETS) == set(DESCRIPTIONS)
    for name in PRESETS:
        assert f"| `{name}` |" in README


def test_every_link_and_picture_is_there_and_small() -> None:
    targets = [t for t in re.findall(r'\]\(([^)#]+)\)|src="([^"]+)"', README) for t in t if t and "://" not in t]
    assert len(targets) >= 4
    for target in targets:
        path = ROOT / target
        assert path.is_file(), target
        assert path.stat().st_size < 300_000, target


@pytest.mark.parametrize("tables", [reproduce.tables, objectives.table], ids=["reproduce", "objectives"])
def test_the_table_of_an_experiment_is_that_of_the_results_beside_it(tables: Callable[[], Iterator[str]]) -> None:
    page = Path(inspect.getfile(tables)).with_name("README.md")
    assert "\n".join(tables()) in page.read_text()


def test_the_tables_of_the_benchmark_are_those_of_its_results(tmp_path: Path) -> None:
    shutil.copytree(results.FOLDER, tmp_path / "results")
    shutil.copy(benchmark.README, tmp_path / "benchmark.md")
    shutil.copy(benchmark.SUMMARY, tmp_path / "summary.md")
    benchmark.write(tmp_path / "results", tmp_path / "benchmark.md", tmp_path / "summary.md")
    assert (tmp_path / "benchmark.md").read_text() == benchmark.README.read_text()
    assert (tmp_path / "summary.md").read_text() == benchmark.SUMMARY.read_text()
