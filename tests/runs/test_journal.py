from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jaxgan.config import Config, EveryConfig, InputError
from jaxgan.runs.journal import Journal, forget_end, read_rows, sample_files


def fill(run: Path, start: int, steps: range) -> None:
    with Journal(run, start) as journal:
        for step in steps:
            journal.write(step, {"loss/disc": step / 8})
            journal.picture(step, np.zeros((4, 28, 28, 1), np.float32), np.zeros(4, np.float32))


def test_rows_are_written_as_json_lines_and_read_back(tmp_path: Path) -> None:
    fill(tmp_path, 0, range(1, 4))
    assert read_rows(tmp_path) == [{"step": step, "loss/disc": step / 8} for step in (1, 2, 3)]


def test_opening_a_journal_at_a_step_takes_back_what_lies_after_it(tmp_path: Path) -> None:
    fill(tmp_path, 0, range(1, 6))
    fill(tmp_path, 3, range(0))
    assert [row["step"] for row in read_rows(tmp_path)] == [1, 2, 3]
    assert [path.stem for path in sample_files(tmp_path)] == ["00000001", "00000002", "00000003"]


def test_a_line_that_a_kill_cut_short_is_left_out(tmp_path: Path) -> None:
    fill(tmp_path, 0, range(1, 3))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "loss')
    assert [row["step"] for row in read_rows(tmp_path)] == [1, 2]
    fill(tmp_path, 2, range(3, 4))
    assert [row["step"] for row in read_rows(tmp_path)] == [1, 2, 3]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nnonsense\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl: line 2"):
        read_rows(tmp_path)


def test_tensorboard_reads_the_scalars_and_the_pictures(tmp_path: Path) -> None:
    fill(tmp_path, 0, range(1, 4))
    (events,) = tmp_path.glob("events.out.tfevents.*")
    scalars: dict[int, float] = {}
    pictures = 0
    for event in records(events.read_bytes()):
        for value in event.summary.value:
            if value.tag == "loss/disc":
                scalars[event.step] = value.simple_value
            pictures += value.tag == "samples"
    assert scalars == {step: step / 8 for step in (1, 2, 3)}
    assert pictures == 3


def records(content: bytes) -> list:
    """The events of a TFRecord file: length (8 bytes), its checksum (4), the event, its checksum (4)."""
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue] (made by protobuf)

    found = []
    while content:
        length = int.from_bytes(content[:8], "little")
        found.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return found


def test_rows_are_strict_json(tmp_path: Path) -> None:
    with Journal(tmp_path, 0) as journal, pytest.raises(ValueError, match="not JSON compliant"):
        journal.write(1, {"loss/disc": float("nan")})


def test_tensorboard_is_told_of_the_steps_that_are_taken_back(tmp_path: Path) -> None:
    fill(tmp_path, 3, range(4, 5))
    (events,) = tmp_path.glob("events.out.tfevents.*")
    starts = [event.step for event in records(events.read_bytes()) if event.HasField("session_log")]
    assert starts == [4]


@pytest.mark.parametrize(("every", "kept"), [(0, False), (20, False), (25, True)])
def test_a_run_that_becomes_longer_forgets_what_only_its_end_had(tmp_path: Path, every: int, kept: bool) -> None:
    config = Config(eval_every=every, every=EveryConfig(sample=every))
    with Journal(tmp_path, 0) as journal:
        for step in (20, 25, 50):
            journal.write(step, {"loss/disc": 1.0, "loss/gen": 2.0})
            journal.write(step, {"score/frechet": 3.0, "score/recall": 0.5})
            journal.picture(step, np.zeros((4, 2, 2, 1), np.float32), np.zeros(4, np.float32))
    before = read_rows(tmp_path)
    forget_end(tmp_path, config, 50)
    assert read_rows(tmp_path) == (before if kept else before[:-1])
    assert [int(path.stem) for path in sample_files(tmp_path)] == ([20, 25, 50] if kept else [20, 25])
