"""Trainings as jobs: local processes for real, SLURM through stand-ins for its programs."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import short

from modgrok.scale.jobs import NO_LIMIT, Point, Resources, job_error, local_submit, slurm_executor
from modgrok.scale.sweep import sweep
from modgrok.storage.runs import Run
from modgrok.train import train

pytest.importorskip("submitit")


def test_a_killed_job_is_told_from_one_that_ended():
    class Killed:  # what submitit gives for a process that left no result
        paths = SimpleNamespace(stderr="jobs/7/7_0_log.err")

        def results(self):
            raise RuntimeError("Job 7 has not produced any output")

    assert (
        job_error(Killed())
        == "ended without a result, killed or out of memory; its log is jobs/7/7_0_log.err"
    )


def test_one_run_on_two_processes(tmp_path):
    import submitit

    config = short()
    executor = submitit.LocalExecutor(tmp_path / "logs" / "%j")
    executor.update_parameters(tasks_per_node=2, timeout_min=NO_LIMIT)
    job = executor.submit(Point(config, tmp_path / "two"))
    assert job.results() == [None, None]
    two_processes, one_process = Run(tmp_path / "two" / config.name), train(config, tmp_path / "one")
    assert two_processes.provenance["processes"] == [2]
    for name, values in one_process.metrics.items():
        torch.testing.assert_close(two_processes.metrics[name], values, atol=1e-5, rtol=0, equal_nan=True)


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
    configs = [short(seed=1), short(seed=2, lr=1e30)]
    results = sweep(
        configs, tmp_path / "runs", jobs=5, cluster="slurm", minutes=90,
        slurm=("partition=short", "account=lab", "cpus_per_task=8", "exclusive"),
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
    executor = slurm_executor(tmp_path, Resources(jobs=4, cluster="slurm", gpus=8, minutes=60))
    script = executor._make_submission_file_text("python train.py", "uid")
    assert "#SBATCH --gpus-per-node=8\n" in script and "#SBATCH --ntasks-per-node=8\n" in script
    assert "--partition" not in script


def test_local_jobs_share_out_the_gpus(tmp_path, monkeypatch):
    import submitit

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(submitit.LocalExecutor, "submit", lambda self, point: self.parameters["visible_gpus"])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [local_submit(tmp_path, Resources(gpus=1))(None, slot) for slot in range(3)] == [[0], [1], [0]]
    assert local_submit(tmp_path, Resources(gpus=0))(None, 1) == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    assert [local_submit(tmp_path, Resources(gpus=2))(None, slot) for slot in range(2)] == [[4, 6], [7, 4]]


def test_a_refused_array_leaves_no_folder(tmp_path, slurm):
    (slurm.parent / "bin/sbatch").write_text(
        "#!/bin/sh\necho 'sbatch: error: invalid partition' >&2; exit 1\n"
    )
    with pytest.raises(ValueError, match="sbatch refused the jobs"):
        sweep([short()], tmp_path / "runs", cluster="slurm")
    assert not (tmp_path / "runs/sweep-logs").exists()
