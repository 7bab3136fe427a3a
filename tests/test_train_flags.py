from __future__ import annotations

import ast
import inspect
import itertools
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from running import complaint, refusal, run, succeed

from jaxgan import config
from jaxgan.config import Config, InputError, flag, leaves, with_values
from jaxgan.presets import DESCRIPTIONS, PRESETS
from jaxgan.train import _parse, main, split_preset


def test_help_shows_every_preset_with_its_description_and_every_field_with_its_flag() -> None:
    text = succeed(run("train", "--help"))
    joined = " ".join(text.split())
    for name in PRESETS:
        assert name in joined
        assert DESCRIPTIONS[name] in joined
    for name, value in leaves(Config()):
        assert re.search(re.escape(flag(name)) + r"\b", joined), name
        if isinstance(value, bool):
            assert f"{flag(name)}, {negated(name)}" in joined, name


def test_every_field_has_a_help_text() -> None:
    groups = {"OptimizerConfig", "GeneratorConfig", "DiscriminatorConfig", "LatentConfig"}
    groups |= {"ObjectiveConfig", "AugmentConfig", "DataConfig", "EveryConfig"}
    seen = 0
    for body in (node.body for node in ast.parse(inspect.getsource(config)).body if isinstance(node, ast.ClassDef)):
        for field, text in itertools.pairwise(body):
            if isinstance(field, ast.AnnAssign) and ast.unparse(field.annotation) not in groups:
                # tyro takes the string that stands under a field.
                assert isinstance(text, ast.Expr), ast.unparse(field)
                assert isinstance(text.value, ast.Constant)
                assert len(str(text.value.value).split()) >= 2, ast.unparse(field)
                seen += 1
    # Both players have an optimiser of four fields.
    assert seen == sum(1 for _ in leaves(Config())) - 4


def test_help_and_import_load_no_jax() -> None:
    code = "import sys, jaxgan, jaxgan.train; jaxgan.train.split_preset([]); assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def words(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, tuple) else [str(value)]


def changed(name: str, value: Any) -> Any:
    """Another value of a field that is allowed in the preset `modern`."""
    special: dict[str, Any] = {
        "gen.widths": (7, 8, 9),
        "disc.widths": (3,),
        "gen.activation": "silu",
        "disc.activation": "relu",
        "gen.initializer": "he_normal",
        "disc.initializer": "lecun_normal",
        "gen.output": "sigmoid",
        "latent.prior": "uniform",
        "objective.name": "wasserstein",
        "data.name": "kmnist",
        "data.data_dir": Path("some where"),
        "data.manual_dir": Path("/else/where"),
        "data.order": "replacement",
        "data.resident": "host",
    }
    if name in special:
        return special[name]
    return value + 1 if isinstance(value, int) else value / 2 + 0.125


def negated(name: str) -> str:
    group, dot, last = name.rpartition(".")
    return flag(f"{group}{dot}no-{last}")


# The two that need another objective than the default's have a test of their own.
PLAIN = [
    name
    for name, value in leaves(Config())
    if not isinstance(value, bool) and name not in ("objective.real_label", "objective.updates")
]


@pytest.mark.parametrize("name", PLAIN)
def test_a_flag_sets_its_field_and_no_other(name: str) -> None:
    wanted = changed(name, dict(leaves(PRESETS["modern"]))[name])
    parsed = dict(leaves(_parse(PRESETS["modern"], [flag(name), *words(wanted)]).config))
    assert parsed == {**dict(leaves(PRESETS["modern"])), name: wanted}


BOOLEANS = [name for name, value in leaves(Config()) if isinstance(value, bool)]


@pytest.mark.parametrize("name", BOOLEANS)
def test_a_flag_without_a_value_and_its_opposite_set_their_field_and_no_other(name: str) -> None:
    # `modern` has penalties, with which no D has batch norm, and scores nothing.
    base = with_values(PRESETS["modern"], {"objective.r1": 0.0, "objective.r2": 0.0, "eval_every": 100})
    before = dict(leaves(base))
    for spelled, value in ((flag(name), True), (negated(name), False)):
        assert dict(leaves(_parse(base, [spelled]).config)) == {**before, name: value}


def test_dependent_flags_set_their_fields() -> None:
    arguments = ["--objective.updates", "halves", "--objective.real-label", "0.9"]
    vanilla = PRESETS["vanilla"]
    wanted = replace(vanilla, objective=replace(vanilla.objective, updates="halves", real_label=0.9))
    assert _parse(vanilla, arguments).config == wanted


@pytest.mark.parametrize("name", PRESETS)
def test_a_leading_preset_is_the_config_it_names(name: str) -> None:
    preset, rest = split_preset([name, "--seed", "3"])
    assert preset == name
    assert _parse(PRESETS[name], rest).config == replace(PRESETS[name], seed=3)


def test_an_unknown_preset_is_refused_with_a_suggestion() -> None:
    with pytest.raises(InputError, match=r"no preset 'vanila'.*did you mean vanilla\?"):
        split_preset(["vanila"])


@pytest.mark.parametrize("words", [["vanilla", "best"], ["--num-steps", "200", "best"]])
def test_a_preset_in_another_place_is_refused_with_where_it_belongs(words: list[str]) -> None:
    assert refusal(main, *words) == "best: a preset is named once, and before all flags"
    assert split_preset(["--run-dir", "best"]) == (None, ["--run-dir", "best"])


BAD_FLAGS = [
    (["--num-steps", "many"], "--num-steps"),
    (["--no-such-field", "1"], "--no-such-field"),
    (["--gen.widths"], "--gen.widths"),
    (["--gen.widths", "8", "x"], "--gen.widths"),
    (["--batch-size", "0"], "--batch-size"),
    (["--gen.optimizer.learning-rate", "-1"], "--gen.optimizer.learning-rate"),
    (["--objective.name", "vanilla"], "--objective.name"),
    (["--objective.real-label", "0"], "--objective.real-label"),
    (["--objective.updates", "halves"], "--objective.updates"),
    (["--keep-best"], "--eval-every"),
    (["--eval-every", "100", "--data.holdout", "0"], "--data.holdout"),
    (["--eval-every", "-5"], "--eval-every"),
    (["--seed"], "--seed"),
    (["--num-steps", "3", "4"], "4 belongs to no flag"),
    (["--seed", "3", "--num-steps", "4", "3"], "3 belongs to no flag"),
    (["--conditional", "yes"], "--conditional takes no value: leave out yes"),
    (["--no-conditional=true"], "--no-conditional takes no value: leave out true"),
    (["bogus"], "no preset 'bogus'"),
    (["vanilla", "bogus"], "bogus"),
]


@pytest.mark.parametrize(
    ("arguments", "named"), BAD_FLAGS, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_a_bad_flag_ends_with_one_line_that_names_it_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert named in refusal(main, *arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_bad_flag_is_exit_code_2_of_the_command(tmp_path: Path) -> None:
    assert "--num-steps" in complaint(run("train", "--num-steps", "many", cwd=tmp_path))
