from __future__ import annotations

import concurrent.futures
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from running import (
    QUICKLY,
    SMALL,
    ScoredRun,
    checkpoint_steps,
    complaint,
    prepare_small_data,
    run,
    spawn,
    succeed,
    wait_until,
)

from jaxgan import hosts
from jaxgan.config import InputError
from jaxgan.data.dataset import load_dataset
from jaxgan.gan.program import train_steps
from jaxgan.hosts import HEARTBEAT_SECONDS, LOST, Hosts, check
from jaxgan.rendezvous import meet
from jaxgan.runs.checkpoints import Checkpoints, fresh_state, state_template
from jaxgan.runs.directory import read_record
from jaxgan.yardsticks import validation_scorer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(line: tuple[object, ...], port: int, num_processes: int, process_id: int) -> subprocess.Popen[str]:
    """One process of a job on this machine, with two CPU devices."""
    job = ("--coordinator", f"127.0.0.1:{port}", "--num-processes", num_processes, "--process-id", process_id)
    return spawn("train", *line, *job, compiled=QUICKLY, JAX_NUM_CPU_DEVICES="2")


def start_by_open_mpi(
    line: tuple[object, ...], job_id: int, num_processes: int, process_id: int
) -> subprocess.Popen[str]:
    """One process as `mpirun` would start it: what the flag --distributed finds is in its environment."""
    found = {
        "OMPI_MCA_orte_hnp_uri": f"{job_id * 2**12}.0;tcp://127.0.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": str(num_processes),
        "OMPI_COMM_WORLD_RANK": str(process_id),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(process_id),
    }
    return spawn("train", *line, "--distributed", compiled=QUICKLY, **found)


def errors_of(process: subprocess.Popen[str]) -> list[str]:
    """What a process said on standard error once it ended, without what the collectives of the CPU narrate."""
    _, errors = process.communicate(timeout=60)
    return own_lines(errors)


def own_lines(text: str) -> list[str]:
    """The lines of a text but for those of the CPU's collectives, whose threads write into each other's."""
    pieces = r"\[Gloo\]|Rank|is connected to|peer ranks\.|Expected number of connected peer ranks|is :|\d+|\s"
    return [line for line in text.splitlines() if re.sub(pieces, "", line)]


def test_a_job_that_loses_a_process_ends_and_goes_on_elsewhere_to_the_result_of_one_process(tmp_path: Path) -> None:
    data, run_dir, port = prepare_small_data(tmp_path / "data"), tmp_path / "run", free_port()
    fixed = ("--data.name", "digits", "--data.data-dir", data, "--run-dir", run_dir)
    cadences = ("--every.checkpoint", "8", "--keep", "1000", "--every.log", "1", "--num-steps", "100000")
    line = ("vanilla", "--conditional", *SMALL, *fixed, *cadences)
    # Two processes with two devices each, until one is killed.
    first, second = (start(line, port, 2, i) for i in (0, 1))
    try:
        wait_until((run_dir / "checkpoints" / "8").exists, first, second, seconds=180)
        second.kill()
        killed = time.monotonic()
        assert errors_of(first) == [
            "jaxgan: error: process 1 of this job is lost: see what it says, then start all of them again with --resume"
        ]
        assert time.monotonic() - killed < 60
        assert first.returncode == 4
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()
    assert second.returncode == -signal.SIGKILL
    # As if it had been killed soon after step 8: float32 is the same to rounding for so many steps only.
    for step in checkpoint_steps(run_dir)[1:]:
        shutil.rmtree(run_dir / "checkpoints" / str(step))
    # One process with one device, then one with four.
    for devices, end, shown in (("1", 16, "cpu (cpu)"), ("4", 24, "4 x cpu (cpu)")):
        resumed = ("--run-dir", run_dir, "--resume", "--num-steps", end)
        text = succeed(run("train", *resumed, JAX_NUM_CPU_DEVICES=devices, compiled=QUICKLY))
        assert f"resuming at step {end - 8}" in text
        assert f"device    {shown}, jax" in text
    agrees_with_one_device(run_dir, 24)
    # Again two processes, fed from the host, until one of them is asked to stop.
    again = ("--run-dir", run_dir, "--resume", "--num-steps", "100000", "--data.resident", "host")
    first, second = (start(again, port, 2, i) for i in (0, 1))
    try:
        wait_until((run_dir / "checkpoints" / "40").exists, first, second, seconds=180)
        second.send_signal(signal.SIGTERM)
        texts = [process.communicate(timeout=60)[0] for process in (first, second)]
    finally:
        for process in (first, second):
            process.kill()
    assert [first.returncode, second.returncode] == [128 + signal.SIGTERM] * 2
    assert "resuming at step 24" in texts[0]
    assert "stopped by SIGTERM; resume with:" in texts[0]
    assert own_lines(texts[1]) == []
    rows = (run_dir / "metrics.jsonl").read_text().splitlines()
    assert json.loads(rows[-1])["step"] == max(checkpoint_steps(run_dir))


def test_a_job_that_diverges_ends_with_exit_3_and_one_line_of_the_first_process(tmp_path: Path) -> None:
    data, run_dir, port = prepare_small_data(tmp_path / "data"), tmp_path / "run", free_port()
    fixed = ("--data.name", "digits", "--data.data-dir", data, "--run-dir", run_dir)
    wild = ("--objective.name", "wasserstein", "--disc.optimizer.learning-rate", "1e8", "--every.checkpoint", "1")
    job = [start(("vanilla", *SMALL, *fixed, *wild), port, 2, i) for i in (0, 1)]
    said = [errors_of(process) for process in job]
    assert [process.returncode for process in job] == [3, 3]
    assert len(said[0]) == 1
    told = r"jaxgan: training diverged: .* at step (\d+); the last good checkpoint is that of step (\d+)"
    found = re.fullmatch(told, said[0][0])
    assert found, said
    assert int(found[2]) == int(found[1]) - 1
    assert said[1] == []


def test_a_job_that_open_mpi_started_scores_as_one_process_does_and_ends_at_once_where_a_process_is_lost(
    scored: ScoredRun, tmp_path: Path
) -> None:
    run_dir = tmp_path / "run"
    fixed = ("--data.name", "digits", "--data.data-dir", scored.data, "--run-dir", run_dir, "--data.holdout", "100")
    small = ("--gen.widths", "16", "--disc.widths", "16", "--batch-size", "8", "--every.log", "0", "--every.grid", "2")
    cadences = ("--every.checkpoint", "8", "--keep", "1000", "--eval-every", "8", "--num-steps", "100000")
    cadences += ("--keep-best",)
    # JAX makes its port of the number of the job: 2**12 of them.
    job_id = free_port() % 2**12
    first, second = (start_by_open_mpi(("vanilla", *small, *fixed, *cadences), job_id, 2, i) for i in (0, 1))
    try:
        wait_until((run_dir / "checkpoints" / "16").exists, first, second, seconds=180)
        second.kill()
        killed = time.monotonic()
        assert errors_of(first) == [
            "jaxgan: error: process 1 of this job is lost: see what it says, then start all of them again with --resume"
        ]
        assert time.monotonic() - killed < HEARTBEAT_SECONDS / 2
        assert first.returncode == LOST
    finally:
        for process in (first, second):
            process.kill()
            process.communicate()
    record = read_record(run_dir)
    state, _ = train_steps(record.config, fresh_state(record), load_dataset(record.config, "train"), 8)
    expected = validation_scorer(record.config).scores(state)
    rows = {row["step"]: row for row in map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())}
    assert {name: rows[8][name] for name in expected} == pytest.approx(expected, rel=1e-3)
    assert any(path.name.isdecimal() for path in (run_dir / "best").iterdir())


def agrees_with_one_device(run_dir: Path, steps: int) -> None:
    """Asserts that a run is what the library computes on the one device of this process."""
    record = read_record(run_dir)
    dataset = load_dataset(record.config, "train")
    state, metrics = train_steps(record.config, fresh_state(record), dataset, steps)
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, steps + 1))
    for name, column in metrics.items():
        np.testing.assert_allclose([row[name] for row in rows], column, rtol=2e-5, atol=2e-6, err_msg=name)
    with Checkpoints(run_dir) as checkpoints:
        stored = checkpoints.restore(state_template(record), steps)
    for one, other in zip(jax.tree.leaves(stored.params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=2e-6)


def test_a_coordinator_that_nobody_is_at_is_given_up_after_the_time_to_start(tmp_path: Path) -> None:
    job = ("--coordinator", f"127.0.0.1:{free_port()}", "--num-processes", "2", "--process-id", "1")
    line = complaint(run("train", "vanilla", "--run-dir", tmp_path / "run", *job, "--start-timeout", "1"))
    assert re.search(r"--coordinator 127\.0\.0\.1:\d+ cannot be reached within 1 s \(.*\)", line)
    assert not (tmp_path / "run").exists()


def test_processes_that_count_differently_all_end_with_one_line(tmp_path: Path) -> None:
    port = free_port()
    job = [start(("vanilla", "--run-dir", tmp_path / "run"), port, count, i) for i, count in ((0, 2), (1, 3))]
    line = "jaxgan: error: process 1 was started with --num-processes 3, process 0 with 2"
    for process in job:
        assert errors_of(process) == [line]
        assert process.returncode == 2


def test_processes_of_a_cluster_that_do_not_come_are_given_up_after_the_time_to_start(tmp_path: Path) -> None:
    line = ("vanilla", "--run-dir", tmp_path / "run", "--start-timeout", "2")
    ids = [free_port() % 2**12 for _ in range(2)]
    # The first of two, and the second of two others.
    job = [start_by_open_mpi(line, job_id, 2, i) for i, job_id in enumerate(ids)]
    for process in job:
        (said,) = errors_of(process)
        assert said.startswith("jaxgan: error: the processes of this job cannot start together: after 2 s")
        assert process.returncode == 2
    assert not (tmp_path / "run").exists()


def test_the_first_process_tells_the_others_which_one_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, float]] = []
    monkeypatch.setattr(hosts, "lose", lambda what, after=0.0: told.append((what, after)))
    pairs = {i: socket.socketpair() for i in (1, 2)}
    # Of the first process, which hears that the second other one has ended.
    monkeypatch.setattr(hosts, "_links", {i: mine for i, (mine, _) in pairs.items()})
    pairs[2][1].close()
    hosts._watch(2, pairs[2][0])
    # Of the other one, which has a link to the first only.
    monkeypatch.setattr(hosts, "_links", {0: pairs[1][1]})
    hosts._watch(0, pairs[1][1])
    assert told == [("process 2 of this job is lost", hosts.TELLING_SECONDS), ("process 2 of this job is lost", 0.0)]
    for link in (pairs[1][0], pairs[1][1], pairs[2][0]):
        link.close()


def test_processes_with_other_command_lines_or_data_are_refused_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def gather(value: str) -> list[str]:
        return [value, value, "another digest"]

    monkeypatch.setattr(hosts, "gather", gather)
    with pytest.raises(InputError, match="process 2 of this job has another command line than process 0"):
        hosts.check_same("command line", ("--batch-size", 8))


def test_distributed_without_a_cluster_is_refused(tmp_path: Path) -> None:
    line = complaint(run("train", "vanilla", "--run-dir", tmp_path / "run", "--distributed"))
    assert "--distributed" in line
    assert "--coordinator HOST:PORT" in line


def meeting(*members: tuple[int, int], seconds: float = 5.0) -> list[str | None]:
    """How it went for each of some processes (count, id) that meet: None, or what was wrong."""
    coordinator = f"127.0.0.1:{free_port()}"

    def come(member: tuple[int, int]) -> str | None:
        try:
            for link in meet(coordinator, *member, seconds).values():
                assert link.gettimeout() is None  # One that gave up waiting would tell of a loss.
                link.close()
        except InputError as error:
            return str(error)
        return None

    with concurrent.futures.ThreadPoolExecutor(len(members)) as pool:
        return list(pool.map(come, members))


def test_processes_that_are_all_there_meet() -> None:
    assert meeting((1, 0)) == [None]
    assert meeting((3, 2), (3, 0), (3, 1)) == [None] * 3


def test_a_process_that_never_comes_is_named_to_all() -> None:
    assert meeting((3, 0), (3, 2), seconds=1.0) == ["after 1 s process 1 of 3 is missing"] * 2


def test_two_processes_of_one_number_are_refused() -> None:
    assert meeting((3, 0), (3, 1), (3, 1)) == ["two processes were started with --process-id 1"] * 3


def test_a_stranger_at_the_port_of_a_job_does_no_harm() -> None:
    port = free_port()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(meet, f"127.0.0.1:{port}", 2, 0, 10.0)
        for greeting in (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", b"[2, []]\n", b"x" * 5000):
            deadline = time.monotonic() + 5
            while True:
                try:
                    stranger = socket.create_connection(("127.0.0.1", port))
                    break
                except OSError:
                    assert time.monotonic() < deadline
            with stranger:
                stranger.sendall(greeting)
        second = meet(f"127.0.0.1:{port}", 2, 1, 10.0)
        for link in (*first.result().values(), *second.values()):
            link.close()


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"coordinator": "here:1234"}, "go together"),
        ({"num_processes": 2, "process_id": 0}, "go together"),
        ({"coordinator": "here", "num_processes": 2, "process_id": 0}, "--coordinator must be HOST:PORT, not here"),
        ({"coordinator": "here:0", "num_processes": 2, "process_id": 0}, "not here:0"),
        ({"coordinator": "here:99999", "num_processes": 2, "process_id": 0}, "not here:99999"),
        ({"coordinator": ":1", "num_processes": 2, "process_id": 0}, "not :1"),
        ({"coordinator": "here:1", "num_processes": 0, "process_id": 0}, "--num-processes"),
        ({"coordinator": "here:1", "num_processes": 2, "process_id": 2}, "--process-id must be from 0 to 1"),
        ({"coordinator": "here:1", "num_processes": 2, "process_id": -1}, "not -1"),
        ({"start_timeout": 0}, "--start-timeout"),
    ],
)
def test_flags_that_name_no_job_are_refused(flags: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError) as refused:
        check(Hosts(**flags))
    assert named in str(refused.value)
    assert "\n" not in str(refused.value)


def test_proxies_are_hidden_while_processes_connect_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "http_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://there:1")
    before = dict(os.environ)
    with hosts._without_proxies():
        assert {name for name in before if name not in os.environ} >= {"HTTPS_PROXY", "http_proxy", "grpc_proxy"}
    assert dict(os.environ) == before
