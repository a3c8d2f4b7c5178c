"""Many runs: grids, and what becomes of their points, in local processes."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import SHORT, processes, short

from modgrok.__main__ import main
from modgrok.book.chapter import Chapter
from modgrok.claims.cost import SETTINGS
from modgrok.scale.grids import SWEEPS, Sweep, grid, parse_values, sweep_named
from modgrok.scale.sweep import sweep
from modgrok.storage.runs import Run
from modgrok.train import train

pytest.importorskip("submitit")


def page(root, **parameters):
    """A chapter with these parameters, for runs under a root."""
    defaults = {"source": "shipped", "preset": "smoke", "num_processes": 2, "seed": 0, "n_seeds": 1}
    return Chapter("03_phases", defaults | {"root": root} | parameters, "")


def test_values_are_read_as_numbers_truths_or_text():
    assert parse_values("n_tasks=4,8") == ("n_tasks", [4, 8])
    assert parse_values("n-tasks=4") == ("n_tasks", [4])
    assert parse_values("lr=1,2e-3") == ("lr", [1, 0.002])
    assert parse_values("task_rule=random,rectangle") == ("task_rule", ["random", "rectangle"])
    assert parse_values("curriculum=1x4:800") == ("curriculum", ["1x4:800"])
    assert parse_values("shared_pairs=True,False") == ("shared_pairs", [True, False])
    assert parse_values("nope=1,x") == ("nope", [1, "x"])
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
    assert "be a multiple of n_tasks = 20" in points[1]
    for preset_name, vary in (("smok", {}), ("smoke", {"n_task": [4]}), ("smoke", {"n_tasks": ["x"]})):
        with pytest.raises(ValueError, match=r"preset='smok'|did you mean n_tasks|whole number"):
            grid(preset_name, vary)


def test_one_at_a_time_departs_from_the_first_values():
    vary = {"n_tasks": [8, 16], "batch_size": [48, 96], "p,n_tasks,batch_size": [(5, 8, 48), (7, 24, 72)]}
    configs = grid("smoke", vary, [1, 2], one_at_a_time=True)
    points = [(c.p, c.n_tasks, c.batch_size) for c in configs]
    assert points[::2] == points[1::2] == [(5, 8, 48), (5, 16, 48), (5, 8, 96), (7, 24, 72)]
    assert [c.seed for c in configs] == [1, 2] * 4


def test_named_sweeps_are_valid():
    for chosen in SWEEPS.values():
        assert grid(*chosen[:4]) and chosen.cost
    assert len(grid(*SWEEPS["laptop-factors"][:4])) == 2 * (1 + 2 + 3 + 2 + 2 + 2 + 2 + 1 + 2 + 2)


def test_a_sweep_of_no_name_is_answered_with_sweeps():
    assert sweep_named("laptop").preset == "laptop" and sweep_named("smoke-map") is SWEEPS["smoke-map"]
    with pytest.raises(ValueError, match=r"'laptop-mapp' is no sweep and no preset; .*laptop-map"):
        sweep_named("laptop-mapp")


def test_a_chapter_gets_its_runs_in_the_shape_of_the_grid(tmp_path, monkeypatch):
    fixed = {name: (value,) for name, value in SHORT.items()}
    monkeypatch.setitem(SWEEPS, "smoke-map", Sweep("smoke", {"n_tasks": (8, 16), "alpha": (0.6,)} | fixed))
    runs = [
        [train(short(n_tasks=n, seed=seed, alpha=0.6, depth=1), tmp_path) for seed in (3, 4)] for n in (8, 16)
    ]
    obtained = page(tmp_path, seed=3, n_seeds=2).sweep("map", depth=1)
    assert [[run.path for run in row] for row in obtained] == [[run.path for run in row] for row in runs]
    with pytest.raises(FileNotFoundError, match="train it first"):
        page(tmp_path, seed=3, n_seeds=3).sweep("map", depth=1)
    with pytest.raises(
        ValueError, match=r"preset='nope' has no map; choose one of smoke, laptop, desk, paper\."
    ):
        page(tmp_path, preset="nope").sweep("map")


def test_what_is_not_shipped_is_none(tmp_path, monkeypatch):
    fixed = {name: (value,) for name, value in SHORT.items()}
    vary = {"n_head": (2, 1), "p,n_tasks": ((5, 16), (3, 4))} | fixed
    monkeypatch.setitem(SWEEPS, "smoke-factors", Sweep("smoke", vary, one_at_a_time=True))
    monkeypatch.setitem(SWEEPS, "smoke-map", Sweep("smoke", {"n_head": (2, 1)} | fixed))
    base, smaller = train(short(n_head=2), tmp_path), train(short(p=3, n_tasks=4), tmp_path)
    names = {
        setting: {value: [run.name for run in runs] for value, runs in values.items()}
        for setting, values in page(tmp_path, n_seeds=None).factors().items()
    }
    assert names == {
        "heads": {"2": [base.name], "1": []},
        SETTINGS["p"]: {"5": [base.name], "3": [smaller.name]},
    }
    with pytest.raises(FileNotFoundError):
        page(tmp_path).sweep("map")
    with pytest.raises(FileNotFoundError):  # of seed 1 there is nothing at all
        page(tmp_path, n_seeds=2).factors()
    assert page(tmp_path).sweep("map", partial=True)[:, 0].tolist()[1] is None


def test_a_failing_point_stops_no_other_and_the_rest_is_not_repeated(tmp_path, capsys):
    finished, new, bad = short(seed=1), short(seed=2), short(lr=1e30)
    train(finished, tmp_path)
    before = (tmp_path / finished.name / "provenance.json").stat().st_mtime_ns
    results = sweep([finished, new, bad, new], tmp_path, jobs=2)
    assert [result.config for result in results] == [finished, new, bad]
    assert [result.run and result.run.finished for result in results] == [True, True, None]
    assert results[2].error.startswith("FloatingPointError: the loss is not finite")
    assert (tmp_path / finished.name / "provenance.json").stat().st_mtime_ns == before
    assert Run(tmp_path / new.name).provenance["threads"] == int(os.environ.get("OMP_NUM_THREADS", 1))
    printed = capsys.readouterr().out
    assert re.search(r"failed .* lr=1e\+30 .*: FloatingPointError", printed)
    (log,) = (tmp_path / "sweep-logs").rglob("*_log.err")  # only of what failed
    assert "FloatingPointError" in log.read_text()

    second_results = sweep([finished, new], tmp_path)  # all is there: no process is started
    assert all(result.run for result in second_results)
    assert len(list((tmp_path / "sweep-logs").iterdir())) == 1


def test_a_foreign_folder_is_that_points_error(tmp_path):
    good, foreign = short(), short(seed=1)
    train(good, tmp_path)
    (tmp_path / foreign.name).mkdir()
    (tmp_path / foreign.name / "config.json").write_text("{")
    results = sweep([good, foreign], tmp_path)
    assert results[0].run and "config.json is damaged" in results[1].error


def endless(root: Path, seeds: str) -> list[str]:
    """The command of a sweep over runs that will not end by themselves."""
    fields = ("steps=100000", "eval_every=100", "checkpoint_every=100000", "warmup_steps=0")
    vary = [f"--vary={field}" for field in fields]
    return [sys.executable, "-m", "modgrok", "sweep", "smoke", *vary, f"--seeds={seeds}", f"--root={root}"]


def test_ctrl_c_saves_and_the_same_command_continues(tmp_path):
    process = subprocess.Popen(
        endless(tmp_path, "0,1"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while len(list(tmp_path.glob("*/metrics.csv"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "stopped by SIGINT" in errors and "Traceback" not in errors
    assert len(list(tmp_path.glob("*/resume.safetensors"))) == 2  # both had time to save
    assert not (tmp_path / "sweep-logs").exists()


def test_a_killed_sweep_leaves_no_trainer(tmp_path):
    """Its job notices, saves and ends, and the same command continues it."""
    root = tmp_path / "runs"
    process = subprocess.Popen(endless(root, "0"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 300
        while not list(root.glob("*/metrics.csv")) and time.monotonic() < deadline:
            time.sleep(0.2)
        jobs = [pid for pid in processes(str(root)) if pid != process.pid]
        assert jobs
        process.kill()
        process.wait(timeout=20)
        deadline = time.monotonic() + 30
        while processes(str(root)) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not processes(str(root))
        assert len(list(root.glob("*/resume.safetensors"))) == 1
    finally:
        for pid in processes(str(root)):
            os.kill(pid, signal.SIGKILL)


def test_bad_arguments(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")  # on a cluster, too
    for arguments, message in (
        (dict(jobs=0), "jobs=0 must be a whole number, 1 or more"),
        (dict(gpus=-1), "gpus=-1 must be a whole number, 0 or more"),
        (dict(cluster="cloud"), "cluster='cloud' is not allowed"),
        (dict(cluster="slurm"), "finds no sbatch and srun here"),
        (dict(gpus=1000), "gpus=1000 is more than this machine has"),
    ):
        with pytest.raises(ValueError, match=message):
            sweep([short()], tmp_path, **arguments)


def test_the_command(tmp_path, monkeypatch, capsys):
    def modgrok(*arguments: object) -> str | int | None:
        monkeypatch.setattr(sys, "argv", ["modgrok", *map(str, arguments)])
        try:
            main()
        except SystemExit as stop:
            return stop.code

    listed = modgrok("sweep", "smoke", "--vary", "n_tasks=8,20", "--root", tmp_path)
    assert "n_tasks=20: batch_size=48 must lie between 20 and" in listed
    assert not any(tmp_path.iterdir())

    for seed in (1, 2):
        train(short(seed=seed), tmp_path)
    capsys.readouterr()
    vary = [part for name, value in SHORT.items() for part in ("--vary", f"{name}={value}")]
    status = modgrok("sweep", "smoke", *vary, "--seeds", "1,2", "--jobs", "2", "--root", tmp_path)
    assert status is None
    assert [line.split()[-1] for line in capsys.readouterr().out.splitlines()] == [
        "point",
        "seed=1",
        "seed=2",
    ]
    (tmp_path / short(seed=1).name / "config.json").write_text("{")
    assert modgrok("sweep", "smoke", *vary, "--seeds", "1,2", "--root", tmp_path).startswith(
        "modgrok: 1 of 2 points failed"
    )


def test_without_submitit_a_sweep_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "modgrok\[sweep\]"$'):
        sweep([short()], tmp_path)


def test_no_points_are_no_runs(tmp_path):
    assert sweep([], tmp_path) == []
