"""Many runs: local processes for real, SLURM through stand-ins for its programs."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from modgrok.__main__ import main
from modgrok.config import Config, preset
from modgrok.runs import Run
from modgrok.sweep import (
    NO_LIMIT,
    SWEEPS,
    Point,
    Sweep,
    _error,
    _local_submit,
    grid,
    obtain_grid,
    parse_values,
    slurm_executor,
    sweep,
)
from modgrok.train import train

pytest.importorskip("submitit")

TINY = dict(steps=4, warmup_steps=0, eval_every=2, n_checkpoints=1, checkpoint_every=2)


def tiny(**fields) -> Config:
    return preset("smoke", **TINY | fields)


def test_values_are_read_by_the_type_of_their_field():
    assert parse_values("n_tasks=4,8") == ("n_tasks", [4, 8])
    assert parse_values("n-tasks=4") == ("n_tasks", [4])
    assert parse_values("lr=1,2e-3") == ("lr", [1.0, 0.002])
    assert all(isinstance(value, float) for value in parse_values("lr=1,2e-3")[1])  # as a flag would give
    assert parse_values("task_rule=random,rectangle") == ("task_rule", ["random", "rectangle"])
    assert parse_values("n_tasks=4,x") == ("n_tasks", [4, "x"])
    for text in ("n_tasks", "n_tasks=", "=4", "n_tasks=4,,8"):
        with pytest.raises(ValueError, match="write it like n_tasks=4,8,16"):
            parse_values(text)


def test_a_grid_is_every_combination_or_names_what_is_not_valid():
    configs = grid("smoke", {"n_tasks": [8, 16], "alpha": [0.6, 0.8]}, [1, 2])
    assert [(c.n_tasks, c.alpha, c.seed) for c in configs] == [
        (n, alpha, seed) for n in (8, 16) for alpha in (0.6, 0.8) for seed in (1, 2)
    ]
    with pytest.raises(ValueError) as caught:
        grid("smoke", {"n_tasks": [8, 20, 16], "alpha": [0.6, 1.5]}, [1, 2])
    first, *points = str(caught.value).splitlines()
    assert first == "4 point(s) of the sweep are not valid, nothing was started:"
    assert [point.split(":")[0] for point in points] == [
        "  n_tasks=8 alpha=1.5", "  n_tasks=20 alpha=0.6", "  n_tasks=20 alpha=1.5", "  n_tasks=16 alpha=1.5"
    ]  # fmt: skip
    assert "batch_size=48 must be a multiple of n_tasks = 20" in points[1]
    for preset_name, vary in (("smok", {}), ("smoke", {"n_task": [4]}), ("smoke", {"n_tasks": ["x"]})):
        with pytest.raises(ValueError, match=r"preset='smok'|did you mean n_tasks|whole number"):
            grid(preset_name, vary)


def test_named_sweeps_are_valid():
    for chosen in SWEEPS.values():
        assert grid(*chosen)


def test_a_chapter_gets_its_runs_in_the_shape_of_the_grid(tmp_path, monkeypatch):
    only = {name: (value,) for name, value in TINY.items()}
    monkeypatch.setitem(SWEEPS, "smoke-map", Sweep("smoke", {"n_tasks": (8, 16), "alpha": (0.6,)} | only))
    made = [
        [train(tiny(n_tasks=n, seed=seed, alpha=0.6, depth=1), tmp_path) for seed in (3, 5)] for n in (8, 16)
    ]
    found = obtain_grid("shipped", "smoke", "map", tmp_path, [3, 5], depth=1)
    assert [[run.path for run in row] for row in found] == [[run.path for run in row] for row in made]
    with pytest.raises(FileNotFoundError, match="train it first"):
        obtain_grid("shipped", "smoke", "map", tmp_path, [3, 4], depth=1)
    with pytest.raises(ValueError, match=r"preset='nope' has no map; choose one of smoke, laptop, desk, paper\."):
        obtain_grid("shipped", "nope", "map", tmp_path, [3])


def test_a_failing_point_stops_no_other_and_the_rest_is_not_repeated(tmp_path, capsys):
    done, new, bad = tiny(seed=1), tiny(seed=2), tiny(lr=1e30)
    train(done, tmp_path)
    before = (tmp_path / done.name / "provenance.json").stat().st_mtime_ns
    results = sweep([done, new, bad, new], tmp_path, jobs=2)
    assert [result.config for result in results] == [done, new, bad]
    assert [result.run and result.run.finished for result in results] == [True, True, None]
    assert results[2].error.startswith("FloatingPointError: the loss is not finite")
    assert (tmp_path / done.name / "provenance.json").stat().st_mtime_ns == before
    assert Run(tmp_path / new.name).provenance["threads"] == int(os.environ.get("OMP_NUM_THREADS", 1))
    printed = capsys.readouterr().out
    assert re.search(r"failed .* lr=1e\+30 .*: FloatingPointError", printed)
    (log,) = (tmp_path / "sweep-logs").rglob("*_log.err")  # only of what failed
    assert "FloatingPointError" in log.read_text()

    again = sweep([done, new], tmp_path)  # all is there: no process is started
    assert all(result.run for result in again)
    assert len(list((tmp_path / "sweep-logs").iterdir())) == 1


def test_a_foreign_folder_is_that_points_error(tmp_path):
    good, foreign = tiny(), tiny(seed=1)
    train(good, tmp_path)
    (tmp_path / foreign.name).mkdir()
    (tmp_path / foreign.name / "config.json").write_text("{")
    results = sweep([good, foreign], tmp_path)
    assert results[0].run and "config.json is damaged" in results[1].error


def test_a_killed_job_is_told_from_one_that_ended():
    class Killed:  # what submitit gives for a process that left no result
        paths = SimpleNamespace(stderr="jobs/7/7_0_log.err")

        def results(self):
            raise RuntimeError("Job 7 has not produced any output")

    assert (
        _error(Killed()) == "ended without a result, killed or out of memory; its log is jobs/7/7_0_log.err"
    )


def test_ctrl_c_saves_and_the_same_command_continues(tmp_path):
    fields = ("steps=100000", "eval_every=100", "checkpoint_every=100000", "warmup_steps=0")
    vary = [part for field in fields for part in ("--vary", field)]
    command = [
        sys.executable,
        "-m",
        "modgrok",
        "sweep",
        "smoke",
        *vary,
        "--seeds",
        "0,1",
        "--root",
        str(tmp_path),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("*/metrics.csv"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopped by SIGINT" in errors and "Traceback" not in errors
    assert len(list(tmp_path.glob("*/resume.safetensors"))) == 2  # both had time to save
    assert not (tmp_path / "sweep-logs").exists()


def processes(text: str) -> list[int]:
    """The processes whose command line has a text in it."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if text in (folder / "cmdline").read_text():
                found.append(int(folder.name))
    return found


def test_a_killed_sweep_leaves_no_trainer(tmp_path):
    """Its jobs notice, save and end, and the same command continues them."""
    root = tmp_path / "runs"
    vary = [f"--vary={name}" for name in ("steps=100000", "eval_every=100", "checkpoint_every=100000")]
    command = [
        sys.executable,
        "-m",
        "modgrok",
        "sweep",
        "smoke",
        *vary,
        "--seeds",
        "0,1",
        "--root",
        str(root),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while len(list(root.glob("*/metrics.csv"))) < 2 and time.monotonic() < deadline:
            time.sleep(0.2)
        jobs = [pid for pid in processes(str(root)) if pid != process.pid]
        assert len(jobs) >= 2
        process.kill()
        process.wait(timeout=20)
        deadline = time.monotonic() + 30
        while processes(str(root)) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not processes(str(root))
        assert len(list(root.glob("*/resume.safetensors"))) == 2
    finally:
        for pid in processes(str(root)):
            os.kill(pid, signal.SIGKILL)


def test_one_run_on_two_processes(tmp_path):
    import submitit

    config = tiny()
    executor = submitit.LocalExecutor(tmp_path / "logs" / "%j")
    executor.update_parameters(tasks_per_node=2, timeout_min=NO_LIMIT)
    job = executor.submit(Point(config, tmp_path / "two"))
    assert job.results() == [None, None]
    two, one = Run(tmp_path / "two" / config.name), train(config, tmp_path / "one")
    assert two.provenance["processes"] == [2]
    for name, values in one.metrics.items():
        torch.testing.assert_close(two.metrics[name], values, atol=1e-5, rtol=0, equal_nan=True)


STAND_INS = {
    # runs every element of the array at once, as a cluster with room would
    "sbatch": """
        script, text = sys.argv[1], open(sys.argv[1]).read()
        open(os.environ["STAND_IN_SCRIPT"], "w").write(text)
        count = int(re.search(r"--array=0-([0-9]+)%", text)[1]) + 1
        one = dict(SLURM_NTASKS="1", SLURM_JOB_NUM_NODES="1", SLURM_NODEID="0", SLURM_PROCID="0", SLURM_LOCALID="0")
        for i in range(count):
            ids = dict(SLURM_JOB_ID=str(778 + i), SLURM_ARRAY_JOB_ID="777", SLURM_ARRAY_TASK_ID=str(i))
            subprocess.Popen(["bash", script], env=os.environ | one | ids, stdout=-3, stderr=-3)
        print("Submitted batch job 777")
    """,
    "srun": """
        command = sys.argv[2:]  # after --unbuffered
        while command[0].startswith("--"):
            command = command[2:]
        os.execvp(command[0], command)
    """,
    "sacct": "",
}


@pytest.fixture
def slurm(tmp_path, monkeypatch) -> Path:
    """A machine with SLURM, as far as submitit can tell; returns where the submitted script is kept."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, body in STAND_INS.items():
        lines = [line.removeprefix(" " * 8) for line in body.splitlines()]
        start = [f"#!{sys.executable}", "import os, re, subprocess, sys"]
        (programs / name).write_text("\n".join([*start, *lines]) + "\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.setenv("STAND_IN_SCRIPT", str(tmp_path / "script.sh"))
    return tmp_path / "script.sh"


def test_slurm_runs_an_array(tmp_path, slurm):
    configs = [tiny(seed=1), tiny(seed=2, lr=1e30)]
    results = sweep(
        configs, tmp_path / "runs", jobs=5, cluster="slurm", partition="short", minutes=90,
        slurm={"account": "lab", "cpus_per_task": 8, "exclusive": True},
    )  # fmt: skip
    assert results[0].run.finished and "FloatingPointError" in results[1].error
    script = slurm.read_text()
    for line in (
        "#SBATCH --array=0-1%2",
        "#SBATCH --job-name=modgrok",
        "#SBATCH --partition=short",
        "#SBATCH --time=90",
        "#SBATCH --account=lab",
        "#SBATCH --cpus-per-task=8",
        "#SBATCH --exclusive",
        "#SBATCH --ntasks-per-node=1",
    ):
        assert line in script.splitlines(), script
    assert "gpus" not in script


def test_the_script_for_runs_on_several_gpus(tmp_path, slurm):
    executor = slurm_executor(tmp_path, jobs=4, gpus=8, partition=None, minutes=60, options={})
    script = executor._make_submission_file_text("python train.py", "uid")
    assert "#SBATCH --gpus-per-node=8\n" in script and "#SBATCH --ntasks-per-node=8\n" in script
    assert "--partition" not in script


def test_local_jobs_share_out_the_gpus(tmp_path, monkeypatch):
    import submitit

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(submitit.LocalExecutor, "submit", lambda self, point: self.parameters["visible_gpus"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [_local_submit(tmp_path, gpus=1)(None, slot) for slot in range(3)] == [[0], [1], [0]]
    assert _local_submit(tmp_path, gpus=0)(None, 1) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    assert [_local_submit(tmp_path, gpus=2)(None, slot) for slot in range(2)] == [[4, 6], [7, 4]]


def test_bad_arguments(tmp_path):
    for arguments, message in (
        (dict(jobs=0), "jobs=0 is not allowed; choose 1 or more"),
        (dict(gpus=-1), "gpus=-1 is not allowed"),
        (dict(cluster="cloud"), "cluster='cloud' is not allowed"),
        (dict(cluster="slurm"), "finds no sbatch and srun here"),
        (dict(gpus=1000), "gpus=1000 is more than this machine has"),
    ):
        with pytest.raises(ValueError, match=message):
            sweep([tiny()], tmp_path, **arguments)


def test_the_command(tmp_path, monkeypatch, capsys):
    def modgrok(*arguments: object) -> str | int | None:
        monkeypatch.setattr(sys, "argv", ["modgrok", *map(str, arguments)])
        try:
            main()
        except SystemExit as stop:
            return stop.code

    listed = modgrok("sweep", "smoke", "--vary", "n_tasks=8,20", "--root", tmp_path)
    assert "n_tasks=20: batch_size=48 must be a multiple of n_tasks = 20" in listed
    assert not any(tmp_path.iterdir())

    for seed in (1, 2):
        train(tiny(seed=seed), tmp_path)
    capsys.readouterr()
    vary = [part for name, value in TINY.items() for part in ("--vary", f"{name}={value}")]
    done = modgrok("sweep", "smoke", *vary, "--seeds", "1,2", "--jobs", "2", "--root", tmp_path)
    assert done is None
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == [
        "point",
        "seed=1",
        "seed=2",
    ]
    (tmp_path / tiny(seed=1).name / "config.json").write_text("{")
    assert modgrok("sweep", "smoke", *vary, "--seeds", "1,2", "--root", tmp_path).startswith(
        "modgrok: 1 of 2 points failed"
    )


def test_without_submitit_the_library_imports_and_a_sweep_says_what_to_install(tmp_path):
    hide = "import sys; sys.modules['submitit'] = None; from modgrok.__main__ import main; main()"
    arguments = ["sweep", "smoke", "--root", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", hide, *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1 and 'pip install "modgrok[sweep]"' in done.stderr
    assert "Traceback" not in done.stderr
