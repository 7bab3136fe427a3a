from __future__ import annotations

import concurrent.futures
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from jaxgan.config import InputError
from jaxgan.runs.scores import (
    FORMAT,
    Protocol,
    Row,
    Scores,
    add_scores,
    encode_scores,
    read_scores,
    table,
    write_score_curves,
)

PROTOCOL = Protocol("mnist-0123abcd", "mnist", "ab" * 32, "test", 10_000, 3)


def row(frechet: float, sd: float | None = 0.25, **others: float) -> Row:
    names = {"frechet": frechet, "precision/3": 0.5, "recall/3": 0.75, **others}
    return {name: {"mean": value, "sd": sd} for name, value in names.items()}


def scores(**checkpoints: Row) -> Scores:
    """Scores whose checkpoints are named `s10` for step 10."""
    by_step = {int(name[1:]): each for name, each in checkpoints.items()}
    return Scores(PROTOCOL, 0.9946, {"jax": "0.10.2"}, {"real": row(1.5), "noise": row(999.0)}, by_step)


def test_scores_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    wanted = scores(s10=row(20.5), s20=row(1 / 3, sd=None))
    (tmp_path / "scores.json").write_bytes(encode_scores(wanted))
    assert read_scores(tmp_path / "scores.json") == wanted


def test_scores_are_strict_json_in_which_numbers_that_are_not_finite_are_null(tmp_path: Path) -> None:
    content = encode_scores(scores(s10=row(math.inf, sd=math.nan, **{"classes/kl": -math.inf})))
    stored = json.loads(content, parse_constant=pytest.fail)
    assert stored["checkpoints"]["10"]["frechet"] == {"mean": None, "sd": None}
    assert stored["checkpoints"]["10"]["recall/3"] == {"mean": 0.75, "sd": None}
    assert stored["protocol"]["num"] == 10_000
    assert stored["format"] == FORMAT
    (tmp_path / "scores.json").write_bytes(content)
    assert read_scores(tmp_path / "scores.json").checkpoints[10]["classes/kl"] == {"mean": None, "sd": None}


def damaged() -> dict[str, tuple[bytes, str]]:
    whole = encode_scores(scores(s10=row(20.5)))
    stored = json.loads(whole)
    other = {
        "a later format": ({**stored, "format": FORMAT + 1}, f"format {FORMAT + 1}; this jaxgan reads format {FORMAT}"),
        "no format": ({name: value for name, value in stored.items() if name != "format"}, "damaged"),
        "no references": ({name: value for name, value in stored.items() if name != "references"}, "damaged"),
        "one field more": ({**stored, "colour": "red"}, "damaged"),
        "words for numbers": ({**stored, "network_accuracy": "high"}, "damaged"),
        "a step that is none": ({**stored, "checkpoints": {"best": {}}}, "damaged"),
        "rows that are none": ({**stored, "references": 3}, "damaged"),
        "a list": ([], "damaged"),
        "a number": (3, "damaged"),
    }
    encoded = {name: (json.dumps(value).encode(), said) for name, (value, said) in other.items()}
    return encoded | {
        "nothing": (b"", "damaged"),
        "half": (whole[: len(whole) // 2], "damaged"),
        "noise": (b"\xff\xfe\x00\x80", "damaged"),
    }


@pytest.mark.parametrize("what", damaged())
def test_a_damaged_or_foreign_file_is_refused_in_a_line_that_names_it(tmp_path: Path, what: str) -> None:
    content, said = damaged()[what]
    path = tmp_path / "scores.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=said) as refused:
        read_scores(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json cannot be read: No such file"):
        read_scores(tmp_path / "none.json")


def test_the_first_scores_of_a_run_are_written_as_they_are(tmp_path: Path) -> None:
    assert add_scores(tmp_path, scores(s10=row(20.5))) == (scores(s10=row(20.5)), None)
    assert read_scores(tmp_path / "scores.json") == scores(s10=row(20.5))


def test_scores_of_one_protocol_come_together_in_the_order_of_their_steps(tmp_path: Path) -> None:
    add_scores(tmp_path, scores(s20=row(10.0)))
    later = replace(scores(s3=row(90.0)), references={"real": row(1.25)}, versions={"jax": "0.11.0"})
    whole, _ = add_scores(tmp_path, later)
    assert list(whole.checkpoints) == [3, 20]
    assert whole.checkpoints == {3: row(90.0), 20: row(10.0)}
    assert (whole.references, whole.versions) == (later.references, later.versions)
    assert read_scores(tmp_path / "scores.json") == whole


def test_a_checkpoint_that_is_scored_again_keeps_what_the_new_scores_lack(tmp_path: Path) -> None:
    add_scores(tmp_path, scores(s10=row(20.5, two_sample=0.9), s20=row(5.0)))
    whole, aside = add_scores(tmp_path, scores(s10=row(21.0)))
    assert aside is None
    assert whole.checkpoints == {10: row(21.0, two_sample=0.9), 20: row(5.0)}


def test_scores_of_evaluations_that_end_together_are_all_kept(tmp_path: Path) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda step: add_scores(tmp_path, scores(**{f"s{step}": row(step)})), range(40)))
    assert list(read_scores(tmp_path / "scores.json").checkpoints) == list(range(40))


def test_reference_rows_keep_what_the_new_scores_lack(tmp_path: Path) -> None:
    add_scores(tmp_path, replace(scores(s10=row(20.5)), references={"real": row(1.5, two_sample=0.53)}))
    whole, _ = add_scores(tmp_path, replace(scores(s20=row(5.0)), references={"real": row(1.6), "noise": row(9.0)}))
    assert whole.references == {"real": row(1.6, two_sample=0.53), "noise": row(9.0)}


@pytest.mark.parametrize(
    "change",
    [
        {"network": "mnist-ffffffff"},
        {"against": "train"},
        {"num": 5000},
        {"draws": 1},
        {"fingerprint": "cd" * 32},
        {"latent_scale": 1.5},
        {"label_scale": 1.5},
        {"seed": 1},
    ],
    ids=str,
)
def test_scores_of_another_protocol_are_put_aside(tmp_path: Path, change: dict) -> None:
    first = scores(s10=row(20.5))
    add_scores(tmp_path, first)
    other = replace(scores(s20=row(5.0)), protocol=replace(PROTOCOL, **change))
    assert add_scores(tmp_path, other) == (other, tmp_path / "scores-1.json")
    assert add_scores(tmp_path, other) == (other, None)
    assert read_scores(tmp_path / "scores.json") == other
    assert add_scores(tmp_path, first) == (first, tmp_path / "scores-2.json")
    assert read_scores(tmp_path / "scores-1.json") == first
    assert read_scores(tmp_path / "scores-2.json") == other


def test_a_file_that_cannot_be_read_is_put_aside(tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text("{")
    assert add_scores(tmp_path, scores(s10=row(20.5))) == (scores(s10=row(20.5)), tmp_path / "scores-1.json")
    assert read_scores(tmp_path / "scores.json") == scores(s10=row(20.5))
    assert (tmp_path / "scores-1.json").read_text() == "{"


def test_the_table_has_a_column_a_set_and_a_line_a_score() -> None:
    step: Row = {
        "frechet": {"mean": 12.345, "sd": 0.0449},
        "recall/3": {"mean": 0.75, "sd": 0.0},
        "classes/hit": {"mean": 9.6, "sd": 0.55},
        "classes/kl": {"mean": None, "sd": None},
        "share/0": {"mean": 0.1, "sd": None},
        "prob/fake": {"mean": 0.25, "sd": None},
    }
    real: Row = {"frechet": {"mean": 1.0, "sd": None}, "recall/3": {"mean": 1.0, "sd": None}}
    for mean, sd, shown in ((10.0, 0.0, "10"), (9.0, 1.0, "9.0 ±1.0")):
        assert table({"": {"classes/hit": {"mean": mean, "sd": sd}}})[1] == f"classes hit ↑  {shown}"
    assert table({"step 1,000": step, "real": real}) == [
        "                          step 1,000   real",
        "Fréchet distance ↓       12.35 ±0.04   1.00",
        "recall (k=3) ↑          0.750 ±0.000  1.000",
        "classes hit ↑               9.6 ±0.6      -",
        "KL to data's classes ↓             -      -",
        "D(generated)                   0.250      -",
    ]


def test_curves_show_every_score_that_there_is_and_the_lines_of_real_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, list[list[float]]] = {}
    save = Figure.savefig

    def record(figure: Figure, *arguments: Any, **named: Any) -> None:
        lines = [line for axes in figure.axes for line in axes.lines]
        drawn.update({str(line.get_label()): np.asarray(line.get_xydata()).tolist() for line in lines})
        save(figure, *arguments, **named)

    monkeypatch.setattr(Figure, "savefig", record)
    nowhere: Row = {**row(10.0), "precision/3": {"mean": None, "sd": None}}
    write_score_curves(scores(s10=row(20.5), s20=nowhere), tmp_path / "scores.png")
    with Image.open(tmp_path / "scores.png") as picture:
        assert picture.size == (990, 715)
    assert drawn["Fréchet distance"] == [[10, 20.5], [20, 10.0]]
    assert drawn["recall"] == [[10, 0.75], [20, 0.75]]
    assert drawn["precision"][0] == [10, 0.5]
    assert math.isnan(drawn["precision"][1][1])
    assert [y for _, y in drawn["Fréchet distance of real images"]] == [1.5, 1.5]
