from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from running import (
    QUICKLY,
    SMALL,
    checkpoint_steps,
    command,
    complaint,
    environment,
    finish,
    here,
    prepare_small_data,
    refusal,
    restart,
    resume_here,
    run,
    same_run,
    start,
    state_digest,
    succeed,
    train,
    train_here,
    wait_until,
)

from jaxgan.config import InputError
from jaxgan.runs.directory import owned, read_record
from jaxgan.runs.journal import read_rows
from jaxgan.train import main

CADENCES = ("--every.log", "1", "--every.sample", "20", "--every.checkpoint", "20")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_small_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run of 100 steps, and what it printed."""
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    return run_dir, train_here(data, run_dir, *CADENCES, "--num-steps", "100")


@pytest.fixture
def copied(finished: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of the finished run, to damage."""
    target = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(finished[0]), str(target)], check=True)
    return target


def test_training_never_imports_tensorflow_or_another_framework(data: Path, tmp_path: Path) -> None:
    for name in ("tensorflow", "torch", "keras"):  # As if they were installed.
        (tmp_path / f"{name}.py").touch()
    code = (
        "import sys; from jaxgan.train import main; main(sys.argv[1:]);"
        "assert not any(name.split('.')[0] in ('tensorflow', 'torch', 'keras') for name in sys.modules)"
    )
    arguments = ["vanilla", *SMALL, "--data.name", "digits", "--data.data-dir", str(data), "--num-steps", "3"]
    arguments += ["--run-dir", str(tmp_path / "run"), "--every.log", "1"]
    where = environment(PYTHONPATH=str(tmp_path), **QUICKLY)
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.DEVNULL, env=where)


def test_a_run_leaves_everything_that_it_promises(finished: tuple[Path, str]) -> None:
    run_dir, _ = finished
    names = {path.name for path in run_dir.iterdir()}
    assert {"config.json", "metrics.jsonl", "samples", "samples.gif", "samples.npz", "losses.png"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert checkpoint_steps(run_dir) == [60, 80, 100]
    pictures = sorted(path.name for path in (run_dir / "samples").iterdir())
    assert pictures == [f"{step:08d}.png" for step in range(0, 101, 20)]
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 101))
    assert set(rows[0]) == {"step", "loss/disc", "loss/disc_real", "loss/disc_fake", "loss/gen", "prob/real"} | {
        "prob/fake",
        "accuracy/disc",
    }
    with Image.open(run_dir / "samples.gif") as film:
        assert getattr(film, "n_frames", 1) == 6
    with np.load(run_dir / "samples.npz", allow_pickle=False) as samples:
        assert samples["steps"].tolist() == list(range(0, 101, 20))
        assert samples["images"].shape == (6, 4, 28, 28, 1)
        assert samples["logits"].shape == (6, 4)


def test_the_record_names_config_versions_and_data(finished: tuple[Path, str], data: Path) -> None:
    record = json.loads((finished[0] / "config.json").read_text())
    assert record["format"] == 1
    assert record["preset"] == "vanilla"
    assert record["config"]["num_steps"] == 100
    assert record["config"]["data"]["data_dir"] == str(data)
    assert record["dataset"]["name"] == "digits"
    assert re.fullmatch("[0-9a-f]{64}", record["dataset"]["fingerprint"])
    assert record["dataset"]["num_images"] == 256
    assert {"jaxgan", "jax", "flax", "optax"} <= set(record["versions"])


def test_the_output_names_device_data_preset_networks_run_and_what_to_do_next(finished: tuple[Path, str]) -> None:
    run_dir, text = finished
    for words in ("device ", "digits, 256", "vanilla, seed 0", "generator 14,944 parameters", str(run_dir), "wrote "):
        assert words in text
    assert f"python -m jaxgan.sample {run_dir}" in text
    assert "--resume --num-steps" in text


def test_deep_batchnorm_prints_the_accuracy_of_its_discriminator(data: Path, tmp_path: Path) -> None:
    text = train_here(data, tmp_path / "run", "--num-steps", "2", preset="deep-batchnorm")
    assert re.search(r"^step +1  D loss [\d.]+  G loss [\d.]+  D accuracy [\d.]+%", text, re.MULTILINE)
    assert "moving statistics" in text
    # Its pictures are those after the update of steps 0, 200, ...
    assert [path.name for path in (tmp_path / "run" / "samples").iterdir() if path.stem != "00000002"] == [
        "00000001.png"
    ]


def test_the_same_seed_gives_the_same_bits_also_of_images_served_from_the_host_and_another_seed_does_not(
    finished: tuple[Path, str], data: Path, tmp_path: Path
) -> None:
    train_here(data, tmp_path / "again", *CADENCES, "--num-steps", "100", "--data.resident", "host")
    same_run(finished[0], tmp_path / "again", 100)
    train_here(data, tmp_path / "other", *CADENCES, "--num-steps", "100", "--seed", "1")
    assert state_digest(finished[0], 100) != state_digest(tmp_path / "other", 100)


def test_the_training_program_is_compiled_once_in_a_run(data: Path, tmp_path: Path) -> None:
    fixed = ("--data.name", "digits", "--data.data-dir", data, "--run-dir", tmp_path / "run")
    lengths = ("--num-steps", "77", "--every.sample", "10", "--every.checkpoint", "7")
    line = ("vanilla", *SMALL, *fixed, *lengths)
    done = run("train", *line, JAX_LOG_COMPILES="1", JAX_ENABLE_COMPILATION_CACHE="0", compiled=QUICKLY)
    assert done.returncode == 0
    assert len(re.findall(r"Finished XLA compilation of jit\(train_loop\)", done.stderr)) == 1


LONG = ("--num-steps", "2000", "--every.log", "10", "--every.sample", "100", "--every.checkpoint", "100")
LONG += ("--every.print", "1000")


@pytest.fixture(scope="session")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run in a process of its own, and what it printed."""
    run_dir = tmp_path_factory.mktemp("uninterrupted") / "run"
    return run_dir, train(data, run_dir, *LONG)


# What ends a run each time that it has written another checkpoint (at first, its record), and its exit codes.
INTERRUPTIONS = [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGKILL, -9), (signal.SIGTERM, 143)]
INTERRUPTIONS += [(signal.SIGKILL, -9)]


def newest(run_dir: Path) -> int:
    """The step of the newest checkpoint; 0 where there is only a record, -1 where there is no run yet."""
    if not (run_dir / "config.json").exists():
        return -1
    return max(checkpoint_steps(run_dir), default=0) if (run_dir / "checkpoints").exists() else 0


def test_a_run_that_is_killed_and_stopped_again_and_again_ends_with_the_bits_of_one_that_was_not(
    data: Path, uninterrupted: tuple[Path, str], tmp_path: Path
) -> None:
    run_dir, before = tmp_path / "run", -1
    process = start(data, run_dir, *LONG)
    for number, code in INTERRUPTIONS:
        wait_until(lambda before=before: newest(run_dir) > before, process)
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (code, "")
        before = newest(run_dir)
        assert before < 2000
        if number != signal.SIGKILL:
            told = f"stopped by {number.name}; resume with: python -m jaxgan.train --run-dir {run_dir} --resume"
            assert output.splitlines()[-1] == told
        process = restart(run_dir)
    finish(process)
    same_run(uninterrupted[0], run_dir, 2000)


def test_a_pipe_gets_plain_lines_at_the_printing_cadence(uninterrupted: tuple[Path, str]) -> None:
    text = uninterrupted[1]
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
    steps = [match[1] for match in re.finditer(r"^step +([\d,]+)  D loss [\d.]+  G loss [\d.]+", text, re.MULTILINE)]
    assert steps == ["1", "1,001"]


def test_a_finished_run_is_extended_to_the_bits_of_a_longer_one(
    finished: tuple[Path, str], data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    train_here(data, path, *CADENCES, "--num-steps", "50")
    ends = [path / "samples" / f"{step:08d}.png" for step in (50, 70)]  # Of no cadence.
    # What a process leaves that is killed when it has said how long the run shall be.
    (path / "config.json").write_text((path / "config.json").read_text().replace('"num_steps": 50', '"num_steps": 70'))
    resume_here(path)
    assert [end.exists() for end in ends] == [False, True]
    resume_here(path, "--num-steps", "100")
    assert not ends[1].exists()
    same_run(finished[0], path, 100)
    assert json.loads((path / "config.json").read_text())["config"]["num_steps"] == 100


def test_resuming_a_finished_run_says_that_it_is_complete_and_keeps_what_may_change(copied: Path) -> None:
    before = state_digest(copied, 100)
    film = (copied / "samples.gif").read_bytes()
    (copied / "samples.gif").unlink()  # As where the end of the run was cut short.
    assert "complete at step 100" in resume_here(copied, "--keep", "7")
    assert (copied / "samples.gif").read_bytes() == film
    assert read_record(copied).config.keep == 7
    assert state_digest(copied, 100) == before


def test_a_run_without_a_name_goes_to_the_next_free_one_and_is_found_again(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fixed = ("--data.name", "digits", "--data.data-dir", data, "--num-steps", "2")
    for expected in ("runs/vanilla-5", "runs/vanilla-5-2"):
        text = succeed(here("train", "vanilla", "--seed", "5", *SMALL, *fixed))
        assert f"run       {expected}\n" in text
    text = succeed(here("train", "vanilla", "--seed", "5", "--resume", "--num-steps", "3"))
    assert "run       runs/vanilla-5-2\n" in text
    assert "resuming at step 2" in text


def test_a_non_finite_loss_ends_the_run_with_exit_3_its_name_and_step(data: Path, tmp_path: Path) -> None:
    fixed = ("--data.name", "digits", "--data.data-dir", data, "--run-dir", tmp_path / "run", "--num-steps", "60")
    # Adam moves every weight by about the learning rate, so 1e18 overflows float32 within a few steps.
    rates = ("--gen.optimizer.learning-rate", "1e18", "--disc.optimizer.learning-rate", "1e18")
    done = run("train", "vanilla", *SMALL, *CADENCES, *fixed, *rates)
    assert done.returncode == 3
    found = re.fullmatch(r"jaxgan: training diverged: (\S+) is (nan|inf|-inf) at step (\d+); .*\n", done.stderr)
    assert found, done.stderr
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == int(found[3]) - 1
    assert checkpoint_steps(tmp_path / "run") == []


def test_divergence_leaves_the_last_good_checkpoint_and_saves_no_bad_state(data: Path, tmp_path: Path) -> None:
    fixed = ("--data.name", "digits", "--data.data-dir", data, "--run-dir", tmp_path / "run", "--num-steps", "60")
    # Without a penalty the critic's weights grow at every step, until the square of G's gradient overflows.
    rates = ("--objective.name", "wasserstein", "--disc.optimizer.learning-rate", "1e8")
    done = here("train", "vanilla", *SMALL, *fixed, *rates, "--every.checkpoint", "1", "--keep", "100")
    assert done.returncode == 3
    found = re.search(r"at step (\d+); the last good checkpoint is that of step (\d+)\n", done.stderr)
    assert found, done.stderr
    good = int(found[1]) - 1
    assert int(found[2]) == good >= 1
    assert checkpoint_steps(tmp_path / "run") == list(range(1, good + 1))
    succeed(here("sample", tmp_path / "run", "--out", tmp_path / "sample.npy", "--num", "3"))
    # What stands in the way of the figures does not hide how the run ended.
    (tmp_path / "run" / "samples" / "00000000.png").write_text("no picture")
    again = here("train", "--run-dir", tmp_path / "run", "--resume")
    assert again.returncode == 3
    assert found[0] in again.stderr
    assert "jaxgan: warning: its figures could not be drawn" in again.stderr


def test_folders_named_from_here_are_recorded_as_they_are_everywhere(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data.parent)
    fixed = ("--data.name", "digits", "--num-steps", "2", "--run-dir", "run")
    succeed(here("train", "vanilla", *SMALL, *fixed, "--data.data-dir", data.name))
    record = json.loads((data.parent / "run" / "config.json").read_text())
    assert record["config"]["data"]["data_dir"] == str(data)
    monkeypatch.chdir(tmp_path)
    resume_here(data.parent / "run", "--num-steps", "3")


def test_a_batch_larger_than_the_data_is_refused_before_a_run_is_made(data: Path, tmp_path: Path) -> None:
    arguments = ("--data.name", "digits", "--data.data-dir", data, "--data.holdout", "0", "--batch-size", "258")
    line = refusal(main, *arguments, "--run-dir", tmp_path / "run")
    assert "258" in line
    assert "256" in line
    assert list(tmp_path.iterdir()) == []


def test_without_network_mnist_is_refused_with_what_to_do(tmp_path: Path) -> None:
    done = run("train", "--data.name", "mnist", "--data.data-dir", tmp_path / "data", "--run-dir", tmp_path / "run")
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert "--data.manual-dir" in line
    assert "train-images-idx3-ubyte.gz" in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_manual_dir_without_the_files_is_refused_by_name(tmp_path: Path) -> None:
    arguments = ("--data.manual-dir", tmp_path, "--data.data-dir", tmp_path / "data", "--run-dir", tmp_path / "run")
    line = refusal(main, *arguments)
    assert "train-images-idx3-ubyte.gz" in line
    assert str(tmp_path) in line


@pytest.mark.parametrize("size", [1000, 9_912_422], ids=["truncated", "of another content"])
def test_a_data_file_that_is_not_the_original_is_refused_by_name(tmp_path: Path, size: int) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (files / f"{name}-ubyte.gz").write_bytes(bytes(size))
    arguments = ("--data.manual-dir", files, "--data.data-dir", tmp_path / "data", "--run-dir", tmp_path / "run")
    line = refusal(main, *arguments)
    assert "train-images-idx3-ubyte.gz is not the original mnist file" in line
    assert not (tmp_path / "run").exists()


def test_a_directory_that_holds_a_run_is_not_overwritten(finished: tuple[Path, str], data: Path) -> None:
    before = state_digest(finished[0], 100)
    fixed = ("--data.name", "digits", "--data.data-dir", data, "--run-dir", finished[0])
    assert "--resume" in refusal(main, "vanilla", *SMALL, *fixed)
    assert state_digest(finished[0], 100) == before


def test_a_directory_with_other_files_is_left_alone(data: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    fixed = ("--data.name", "digits", "--data.data-dir", data, "--run-dir", tmp_path)
    assert "not empty" in refusal(main, "vanilla", *SMALL, *fixed)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_resuming_where_there_is_no_run_is_refused(tmp_path: Path) -> None:
    assert "holds no run" in refusal(main, "--run-dir", tmp_path / "nothing", "--resume")
    assert not (tmp_path / "nothing").exists()


def test_a_run_directory_that_cannot_be_made_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fixed = ("--data.name", "digits", "--data.data-dir", data)
    for place in (tmp_path / "file" / "run", tmp_path / "file"):
        assert str(place) in complaint(run("train", "vanilla", *SMALL, *fixed, "--run-dir", place))


def test_a_run_directory_in_use_is_refused(copied: Path) -> None:
    with owned(copied):
        assert "in use by another process" in complaint(run("train", "--run-dir", copied, "--resume"))


CONTRADICTIONS = [
    ["--gen.optimizer.learning-rate", "0.5"],
    ["--seed", "1"],
    ["--batch-size", "16"],
    ["--data.name", "mnist"],
    ["--objective.name", "hinge"],
    ["--every.grid", "3"],
    ["--latent.scale", "1.5"],  # Pictures and scores of one run would be of two kinds.
]


@pytest.mark.parametrize("arguments", CONTRADICTIONS, ids=" ".join)
def test_a_config_that_contradicts_the_stored_one_is_refused_by_field(
    finished: tuple[Path, str], arguments: list[str]
) -> None:
    line = refusal(main, "--run-dir", finished[0], "--resume", "--num-steps", "200", *arguments)
    assert arguments[0] in line
    assert "contradicts" in line


def test_another_preset_or_fewer_steps_than_were_made_are_refused_on_resume(finished: tuple[Path, str]) -> None:
    assert "preset vanilla" in refusal(main, "logged", "--run-dir", finished[0], "--resume")
    assert "--num-steps 50" in refusal(main, "--run-dir", finished[0], "--resume", "--num-steps", "50")


def test_data_that_changed_since_the_run_began_is_refused(finished: tuple[Path, str], tmp_path: Path) -> None:
    other = prepare_small_data(tmp_path / "other", seed=1)
    arguments = ("--run-dir", finished[0], "--resume", "--num-steps", "200", "--data.data-dir", other)
    assert "fingerprint" in refusal(main, *arguments)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 99}', '{"format": 1, "config": {"seed": 1}}'])
def test_a_damaged_record_is_refused(copied: Path, text: str) -> None:
    (copied / "config.json").write_text(text)
    assert "config.json" in refusal(main, "--run-dir", copied, "--resume")


@pytest.mark.parametrize(
    "line", ["[1]", "3", '{"a": 1}', "{", '{"step": "x"}', '{"step": null}', '{"step": 1, "loss/disc": "low"}']
)
def test_a_damaged_row_is_refused_by_its_number(copied: Path, line: str) -> None:
    path = copied / "metrics.jsonl"
    path.write_text(line + "\n" + path.read_text())
    with pytest.raises(InputError, match=r"metrics\.jsonl: line 1 is damaged"):
        read_rows(copied)


@pytest.mark.parametrize("folder", [True, False])
@pytest.mark.parametrize("also", ["samples.gif", "metrics.jsonl"])
def test_a_run_that_has_lost_its_checkpoints_does_not_begin_anew(copied: Path, also: str, folder: bool) -> None:
    shutil.rmtree(copied / "checkpoints")
    if folder:
        (copied / "checkpoints").mkdir()
    (copied / also).unlink()  # Without rows, pictures tell.
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    said = refusal(main, "--run-dir", copied, "--resume", "--num-steps", "10")
    assert "has rows or pictures of step 100 and nothing in checkpoints/ to continue from" in said
    assert {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()} == before


def test_a_record_with_a_value_out_of_range_is_refused(copied: Path) -> None:
    path = copied / "config.json"
    path.write_text(path.read_text().replace('"batch_size": 8', '"batch_size": 0'))
    assert "--batch-size" in refusal(main, "--run-dir", copied, "--resume")


def truncate(checkpoint: Path) -> None:
    """Cuts every file of a checkpoint that holds numbers in half."""
    for path in checkpoint.rglob("*"):
        if path.is_file() and path.stat().st_size > 1000:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_a_truncated_checkpoint_is_passed_over_for_the_one_before(finished: tuple[Path, str], copied: Path) -> None:
    truncate(copied / "checkpoints" / "100")
    done = here("train", "--run-dir", copied, "--resume")
    assert done.returncode == 0
    assert re.fullmatch(r"jaxgan: warning: the checkpoint of step 100 cannot be read .*\n", done.stderr)
    assert "resuming at step 80" in done.stdout
    same_run(finished[0], copied, 100)
    assert (copied / "damaged-checkpoints" / "100").is_dir()


def test_a_flipped_bit_in_a_checkpoint_is_found(copied: Path) -> None:
    for path in (copied / "checkpoints" / "100" / "state").rglob("*"):
        if path.parent.name == "d" and path.stat().st_size > 1000:
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
    done = here("train", "--run-dir", copied, "--resume")
    assert "the checkpoint of step 100" in done.stderr
    assert "resuming at step 80" in done.stdout


def test_a_checkpoint_of_another_run_is_passed_over(copied: Path, data: Path, tmp_path: Path) -> None:
    train_here(data, tmp_path / "wide", "--num-steps", "120", "--gen.widths", "24")
    (tmp_path / "wide" / "checkpoints" / "120").rename(copied / "checkpoints" / "120")
    done = here("train", "--run-dir", copied, "--resume", "--num-steps", "120")
    assert "the checkpoint of step 120" in done.stderr
    assert "resuming at step 100" in done.stdout


def test_a_run_with_no_good_checkpoint_left_is_refused_and_loses_nothing(copied: Path) -> None:
    # Reads that fail one by one, late, and on threads of their own.
    for file in (copied / "checkpoints").rglob("d/*"):
        file.write_bytes(b"")
    done = run("train", "--run-dir", copied, "--resume")
    assert done.returncode == 2
    *warnings, last = done.stderr.splitlines()
    assert "none of its 3 checkpoints" in last
    assert [line.startswith("jaxgan: warning: the checkpoint of step ") for line in warnings] == [True] * 3
    assert checkpoint_steps(copied) == [60, 80, 100]
    assert (copied / "metrics.jsonl").read_text().count("\n") == 100


def test_a_device_that_does_not_exist_is_refused(data: Path, tmp_path: Path) -> None:
    fixed = ("--data.name", "digits", "--data.data-dir", data, "--run-dir", tmp_path / "run")
    for platform in ("rocm", "nonsense"):
        line = complaint(run("train", "vanilla", *SMALL, *fixed, JAX_PLATFORMS=platform))
        assert f"JAX_PLATFORMS={platform}" in line
    assert not (tmp_path / "run").exists()


def test_a_full_disk_ends_a_run_with_one_line_and_its_last_checkpoint(data: Path, tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    fixed = ("--data.name", "digits", "--data.data-dir", data, "--run-dir", mount / "run", "--gen.widths", "128")
    line = command(
        "train", "vanilla", *SMALL, *fixed, "--num-steps", "4000", "--every.checkpoint", "40", "--keep", "99"
    )
    # A file system of 12 MB in a name space of its own, which needs no privilege where user name spaces are allowed.
    inside = (
        f"mount -t tmpfs -o size=12m none {mount} && $0 $@; code=$?; cp -r {mount}/run {tmp_path}/saved; exit $code"
    )
    done = subprocess.run(
        ["unshare", "-Urm", "bash", "-c", inside, *line],
        env=environment(**QUICKLY),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("user name spaces are not allowed here")
    assert "No space left on device" in complaint(done)
    assert checkpoint_steps(tmp_path / "saved")
    succeed(run("sample", tmp_path / "saved", "--out", tmp_path / "sample.npy"))
