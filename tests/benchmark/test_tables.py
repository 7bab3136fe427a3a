from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_up import FACTS, found

from experiments.benchmark import machine, results, tables
from experiments.benchmark.peers import PEERS
from experiments.benchmark.settings import Settings
from jaxgan.config import InputError, with_values
from jaxgan.presets import PRESETS


def sections(**others: Any) -> dict[str, Any]:
    given = {**found(), **others}
    return {name: results.section("the command", Settings(), FACTS, each) for name, each in given.items()}


def test_a_machine_is_named_after_its_hardware_alone() -> None:
    assert machine.name(FACTS) == "some-cpu-r-9000-2-cores"
    assert machine.name({**FACTS, "device": "NVIDIA H100 80GB HBM3"}) == "nvidia-h100-80gb-hbm3"


def test_ratios_are_taken_repeat_by_repeat_to_the_fastest_peer() -> None:
    lines = list(tables.steps_table(found()["steps"]))
    assert lines[0] == "| system | jaxgan | JAX host loop | PyTorch eager | jaxgan / fastest peer |"
    assert lines[2] == "| `vanilla` | 100 (90 to 110) | 20 (20 to 20) | 50 (44 to 60) | 2.00 (1.50 to 2.50) |"
    assert "of 1 comparisons with ours none differs" in lines[-1]


def test_steps_that_no_peer_was_there_to_race_have_a_table_too() -> None:
    steps = found()["steps"]
    alone = {"vanilla": {"jaxgan": steps["systems"]["vanilla"]["jaxgan"]}}
    check = {**steps["check"], "comparisons": {}}
    peers = {"jaxgan": steps["peers"]["jaxgan"]}
    lines = list(tables.steps_table({**steps, "systems": alone, "peers": peers, "check": check}))
    assert lines[2] == "| `vanilla` | 100 (90 to 110) |  |"
    assert "of 0 comparisons with ours none differs" in lines[-1]


def test_shares_and_counts_are_in_the_table_of_limits() -> None:
    lines = list(tables.limit_table(found()["limit"]))
    assert lines[2] == "| `vanilla` | 2,000.0 | +5.0% | 100 (100 to 100) | 50% (50% to 50%) |"
    assert lines[-1].endswith("makes 400 (400 to 400) GFLOP/s, a copy 20.0 (20.0 to 20.0) GB/s.")


def test_every_question_makes_lines_with_its_figures() -> None:
    text = "\n".join(tables.text(sections()))
    for figure in (
        "200 (20%)",
        "batch 8,192",
        "130: 1.30 (1.30 to 1.30)",
        "| whole | 3.00 (3.00 to 3.00) | 1.50",
        "+5.0% (+5.0% to +5.0%) over 10.0 (10.0 to 10.0) s",
        "700 MB",
    ):
        assert figure in text, figure
    assert "a distance of 10 was not reached" in text
    assert "| 40.0 | 4,000 | 12.50 |" in text


def test_memory_that_is_not_known_is_not_told_as_a_figure() -> None:
    growth, whole = found()["growth"], found()["whole"]
    rows = [{**row, "memory": 0} for row in growth["rows"]]
    assert list(tables.growth_table({**growth, "rows": rows}))[2].endswith("|  |")
    assert next(iter(tables.whole_table({**whole, "peak_memory": 0}))).endswith("peak memory not known on this system.")


def test_figures_of_a_preset_that_has_changed_since_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = sections()["steps"]
    said = "`vanilla` is another preset now than when this was measured."
    file = {"machine": FACTS, "sections": {"steps": steps}}
    assert results.outdated(steps) == []
    assert said not in [*tables.machine_lines("here", file), *tables.summary_lines(file)]
    # How often samples are drawn makes no difference, how wide D is does.
    vanilla = PRESETS["vanilla"]
    monkeypatch.setitem(PRESETS, "vanilla", with_values(vanilla, {"every.sample": 7, "seed": 3}))
    assert results.outdated(steps) == []
    assert results.preset_digest("vanilla") != results.preset_digest("modern")
    monkeypatch.setitem(PRESETS, "vanilla", with_values(vanilla, {"disc.widths": (64,)}))
    assert results.outdated(steps) == ["vanilla"]
    assert said in list(tables.machine_lines("here", file))
    assert said in list(tables.summary_lines(file))
    assert results.outdated({"found": steps["found"]}) == ["vanilla"]


def test_a_file_is_written_section_by_section_and_read_back(tmp_path: Path) -> None:
    whole = sections()
    path = results.add(tmp_path, FACTS, {"steps": whole["steps"], "start": whole["start"]})
    results.add(tmp_path, FACTS, {"start": {**whole["start"], "command": "another"}})
    read = results.read(path)
    assert path.name == "some-cpu-r-9000-2-cores.json"
    assert read["sections"]["start"]["command"] == "another"
    assert read["sections"]["steps"]["found"] == json.loads(json.dumps(whole["steps"]["found"]))
    assert read["machine"] == {name: FACTS[name] for name in ("processor", "cores", "memory_gb", "system", "device")}


def test_floats_are_kept_to_six_digits() -> None:
    assert results.rounded({"a": [1234.56789, 7, "x"], "b": 0.123456789}) == {"a": [1234.57, 7, "x"], "b": 0.123457}


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 0}'])
def test_a_damaged_file_is_told_in_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(InputError, match=r"bad\.json"):
        results.read(tmp_path / "bad.json")


def test_tables_and_plot_are_made_between_the_marks_again_and_again(tmp_path: Path) -> None:
    path = results.add(tmp_path, FACTS, sections())
    files = tmp_path / "README.md", tmp_path / "SUMMARY.md"
    for file in files:
        file.write_text("\n".join(["before", tables.MARKS[0], "stale figures", tables.MARKS[1], "after"]))
    tables.write(tmp_path, *files)
    first = [file.read_text() for file in files]
    tables.write(tmp_path, *files)
    assert [file.read_text() for file in files] == first
    for text in first:
        assert text.startswith("before\n")
        assert text.endswith("\nafter")
        assert "stale figures" not in text
        assert "2.00 (1.50 to 2.50)" in text
    assert "## some-cpu-r-9000-2-cores" in first[0]
    assert "Some CPU (R) 9000" in first[1]
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_the_pages_have_the_marks_and_that_of_the_benchmark_every_peer() -> None:
    page = tables.README.read_text()
    for file in (tables.README, tables.SUMMARY):
        assert all(mark in file.read_text() for mark in tables.MARKS)
    text = " ".join(page.split())
    assert all(entry.title in text for entry in PEERS.values())
