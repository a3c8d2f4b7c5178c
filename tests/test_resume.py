"""Nothing lost: whatever stops a run, the same call continues it to the bit-identical end."""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock
from tiny import (
    ENV,
    ROOT,
    assert_identical,
    command,
    evaluations,
    sentence,
    start,
    tiny,
    wait_for,
)  # fmt: skip

from modgrok.__main__ import main
from modgrok.storage.files import load_state, save_tensors
from modgrok.storage.runs import Run
from modgrok.train import Training, train
from modgrok.training.session import held

CONFIG = tiny(steps=24, eval_every=5, checkpoint_every=3)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A run of CONFIG that was left in peace."""
    return train(CONFIG, tmp_path_factory.mktemp("reference"))


def stopped_at(step: int, root: Path, config=CONFIG) -> Run:
    """A run that stopped for good at a step, as if by a power cut."""

    class PowerCut(Exception):
        pass

    update = Training.update

    def cut(training):
        if training.step == step:
            raise PowerCut
        update(training)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(PowerCut):
        patch.setattr(Training, "update", cut)
        train(config, root)
    return Run(root / config.name)


@pytest.mark.parametrize("step", [0, 1, 3, 4, 5, 7, 10, 15, 16, 20, 21, 23])
def test_continues_from_any_step(step, tmp_path, reference):
    """Also in the middle of an interval between evaluations, and right at one."""
    run = stopped_at(step, tmp_path)
    resume = run.path / "resume.safetensors"
    assert resume.exists() == (step >= 3)
    if step >= 3:
        assert load_state(resume, run.name)[1]["step"] == step // 3 * 3
    assert_identical(train(CONFIG, tmp_path), reference)


@pytest.mark.parametrize("eval_every, checkpoint_every", [(1, 1), (4, 4), (100, 3), (3, 100), (2, 6)])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_continues_whatever_the_intervals(eval_every, checkpoint_every, optimizer, tmp_path):
    config = tiny(eval_every=eval_every, checkpoint_every=checkpoint_every, optimizer=optimizer)
    stopped_at(8, tmp_path / "stopped", config)
    assert_identical(train(config, tmp_path / "stopped"), train(config, tmp_path / "straight"))


@pytest.mark.parametrize("step", range(1, 12))
def test_continues_from_any_step_of_a_curriculum(step, tmp_path, monkeypatch):
    """Also between two looks at the loss, and right where a phase begins; the second phase ends by its loss."""
    monkeypatch.setattr("modgrok.train.PHASE_CHECK", 2)
    config = tiny(curriculum="1x1:3 2x2:6:9 1+0x3:2", checkpoint_every=1)
    stopped_at(step, tmp_path / "stopped", config)
    run = train(config, tmp_path / "stopped")
    assert run.provenance["phases"] == [0, 3, 5, 7]
    assert_identical(run, train(config, tmp_path / "straight"))


def test_continues_with_another_checkpoint_every(tmp_path, reference):
    """It is no part of the result, nor of the name."""
    stopped_at(8, tmp_path)
    assert_identical(train(tiny(steps=24, eval_every=5, checkpoint_every=7), tmp_path), reference)


def test_survives_ten_kills():
    """Real processes and kill -9, at random moments and in the middle of writes; more: scripts/kill_resume.py."""
    kills = os.environ.get("MODGROK_KILLS", "10")
    script = [sys.executable, ROOT / "scripts" / "kill_resume.py", kills]
    result = subprocess.run(script, env=ENV, cwd=ROOT, text=True, capture_output=True, timeout=900)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1].startswith(f"{kills} kills")


LONG = tiny(
    p=2, n_tasks=1, batch_size=1, alpha=0.5, depth=1, steps=600, eval_every=50, checkpoint_every=10**6
)
"""A run of so many steps that a signal is sure to come before the last."""


@pytest.fixture(scope="module")
def long_reference(tmp_path_factory):
    """A run of LONG that was left in peace."""
    return train(LONG, tmp_path_factory.mktemp("long"))


@pytest.mark.parametrize("kind, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_and_says_so(kind, status, tmp_path, long_reference):
    process = start(command(LONG, tmp_path))
    path = tmp_path / LONG.name
    wait_for(lambda: evaluations(path) > 1, process)
    process.send_signal(kind)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == status, errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith(f"modgrok: stopped by {kind.name} at step ") and last.endswith(
        "command continues."
    )
    step = load_state(path / "resume.safetensors", LONG.name)[1]["step"]
    assert f"at step {step} of 600" in last and step > 0 and "Traceback" not in errors
    assert not Run(path).finished and not (path / "holder").exists()
    assert_identical(train(LONG, tmp_path), long_reference)


def test_the_second_of_two_processes_waits_for_the_first(tmp_path):
    """And then returns the finished run without training."""
    config = tiny(steps=400, eval_every=50)
    path = tmp_path / config.name
    first = start(command(config, tmp_path))
    wait_for(lambda: evaluations(path) > 0, first)
    first.send_signal(signal.SIGSTOP)  # lest it finish before the second has come
    second = start(command(config, tmp_path))
    line = second.stdout.readline()
    assert line.startswith(f"{config.name} is being trained by process {first.pid} on ")
    assert line.endswith("; waiting for it.\n")
    first.send_signal(signal.SIGCONT)
    (out1, err1), (out2, err2) = first.communicate(timeout=120), second.communicate(timeout=120)
    assert (first.returncode, second.returncode) == (0, 0), err1 + err2
    assert "from step 0" in out1 and f"finished: {path}" in out1
    assert out2 == f"finished: {path}\n"
    assert Run(path).provenance["processes"] == [1]
    assert not (path / "holder").exists()


def test_a_killed_holder_holds_nothing(tmp_path, reference):
    path = tmp_path / CONFIG.name
    hold = (
        "import sys, time, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(flush=True)"
    )
    path.mkdir()
    holder = start([sys.executable, "-c", f"{hold}; time.sleep(99)", str(path / "lock")])
    holder.stdout.readline()
    (path / "holder").write_text("process 1 on nowhere")
    waiting = start(command(CONFIG, tmp_path))
    assert "is being trained by process 1 on nowhere; waiting" in waiting.stdout.readline()
    assert waiting.poll() is None
    holder.kill()
    holder.communicate(timeout=20)
    out, errors = waiting.communicate(timeout=120)
    assert waiting.returncode == 0, out + errors
    assert_identical(Run(path), reference)


def snapshot(path: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name != "lock"
    }


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1  # in the last tensor
    file.write_bytes(content)


def edit_the_notes(file: Path) -> None:
    content = file.read_bytes()
    changed = content.replace(rb"\"step\": 6", rb"\"step\": 3")
    assert changed != content
    file.write_bytes(changed)


def take_from_another_run(file: Path) -> None:
    config = tiny(seed=9, steps=24)
    tensors, notes = load_state(file, CONFIG.name)
    save_tensors(file, tensors, config.name, notes)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, Path.unlink])
def test_a_run_is_not_finished_without_one_of_its_checkpoints(damage, tmp_path, reference):
    """The weights of a step before the resume point cannot be made again from it; from the start they can."""
    run = stopped_at(16, tmp_path)
    damage(run.checkpoint_file(5))
    before = snapshot(run.path)
    with pytest.raises(
        ValueError, match=r"step-0000005\.safetensors .*remove .*resume\.safetensors"
    ) as error:
        train(CONFIG, tmp_path)
    sentence(error)
    assert snapshot(run.path) == before
    (run.path / "resume.safetensors").unlink()
    assert_identical(train(CONFIG, tmp_path), reference)


def test_processes_that_wait_for_another_trainer_are_never_silent_for_long(tmp_path, monkeypatch):
    """A process group gives up on members that it does not hear from."""
    gathered = []

    def gather(ready):
        gathered.append(int(ready))
        assert len(gathered) < 500, "it never got the lock"
        return ready

    group = SimpleNamespace(is_main_process=True, device="cpu", gather=gather)
    monkeypatch.setattr("modgrok.training.session.WAITING_INTERVAL", 0.05)
    lock = FileLock(tmp_path / "lock", thread_local=False)  # a timer lets go of it
    lock.acquire()
    threading.Timer(1, lock.release).start()
    with held(tmp_path, group):
        assert gathered[-1] == 1 and gathered.count(0) == len(gathered) - 1 >= 3
        assert (tmp_path / "holder").exists()
    answers = iter([0, 0, 1])  # of the main process, as another one hears them
    group = SimpleNamespace(
        is_main_process=False, device="cpu", gather=lambda _: torch.tensor([1, next(answers)])
    )
    with held(tmp_path, group):
        assert next(answers, None) is None


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, edit_the_notes, take_from_another_run])
def test_a_damaged_resume_point_is_refused_and_left_alone(damage, tmp_path):
    run = stopped_at(8, tmp_path)
    damage(run.path / "resume.safetensors")
    before = snapshot(run.path)
    with pytest.raises(ValueError, match=r"resume\.safetensors (is damaged|was changed|belongs to)") as error:
        train(CONFIG, tmp_path)
    sentence(error)
    assert snapshot(run.path) == before


def shorten(run: Run) -> None:
    table = run.path / "metrics.csv"
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:2]))


def cut_the_last_line(run: Run) -> None:
    table = run.path / "metrics.csv"
    table.write_text(table.read_text()[:-60])


@pytest.mark.parametrize(
    "damage", [shorten, cut_the_last_line, lambda run: (run.path / "metrics.csv").unlink()]
)
def test_damaged_metrics_are_refused_and_left_alone(damage, tmp_path):
    run = stopped_at(8, tmp_path)
    damage(run)
    before = snapshot(run.path)
    with pytest.raises(ValueError, match=r"metrics") as error:
        train(CONFIG, tmp_path)
    sentence(error)
    assert snapshot(run.path) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"seed": 0', '"seed": 1'),
        lambda text: text.replace('"depth": 2', '"depth": -2'),
        lambda text: "[]",
        lambda text: "",
    ],
    ids=["truncated", "edited", "impossible", "foreign", "empty"],
)
def test_a_damaged_config_is_refused_and_left_alone(change, tmp_path):
    run = stopped_at(8, tmp_path)
    file = run.path / "config.json"
    file.write_text(change(file.read_text()))
    before = snapshot(run.path)
    with pytest.raises(ValueError, match=r"config\.json (is damaged|was edited)") as error:
        train(CONFIG, tmp_path)
    sentence(error)
    assert snapshot(run.path) == before


def test_leftovers_of_a_killed_write_are_swept_up(tmp_path, reference):
    run = stopped_at(8, tmp_path)
    (run.path / ".part-abc").write_bytes(b"half")
    (run.path / "checkpoints" / ".part-def").write_bytes(b"half")
    assert_identical(train(CONFIG, tmp_path), reference)


def test_a_kill_right_after_the_end_leaves_nothing_for_long(tmp_path, reference):
    run = train(CONFIG, tmp_path)
    (run.path / "resume.safetensors").write_bytes(b"as if the process had been killed before it removed this")
    assert_identical(train(CONFIG, tmp_path), reference)


@pytest.mark.parametrize(
    "name", ["metrics.csv", "resume.safetensors", "checkpoints", "provenance.json", "holder"]
)
def test_a_failing_disk_stops_with_what_was_saved(name, tmp_path, monkeypatch, reference):
    """The write fails once it can do most harm: at the second of the files of that name, or the only one."""
    targets = []
    n_writes = 1 if name in ("provenance.json", "holder") else 2

    def replace(source, target):
        targets.append(target)
        if sum(name in str(path.relative_to(tmp_path)) for path in targets) == n_writes:
            raise OSError(28, "No space left on device")
        os.rename(source, target)

    monkeypatch.setattr("modgrok.storage.files.os.replace", replace)
    with pytest.raises(OSError, match=r"could not write .*No space left on device.* to continue$"):
        train(CONFIG, tmp_path)
    path = tmp_path / CONFIG.name
    assert not list(path.rglob(".part-*"))
    monkeypatch.undo()
    if (path / "resume.safetensors").exists():
        load_state(path / "resume.safetensors", CONFIG.name)
    assert_identical(train(CONFIG, tmp_path), reference)


@contextlib.contextmanager
def file_size_limit(n_bytes: int):
    """No file that this process writes may be larger."""
    limit, highest = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, highest))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, highest))


def test_a_full_disk_stops_with_the_last_resume_point_whole(tmp_path):
    """A real one, as far as the process can tell: no file may be as large as the resume point."""
    config = tiny(steps=40, n_embd=64, eval_every=4, n_checkpoints=2, checkpoint_every=4)
    run = stopped_at(10, tmp_path, config)
    before = (run.path / "resume.safetensors").read_bytes()
    with (
        file_size_limit(len(before) - 1000),
        pytest.raises(OSError, match=r"could not write .*resume\.safetensors .*File too large"),
    ):
        train(config, tmp_path)
    assert (run.path / "resume.safetensors").read_bytes() == before
    assert not list(run.path.rglob(".part-*"))
    assert_identical(train(config, tmp_path), train(config, tmp_path / "straight"))


@pytest.mark.parametrize("checkpoint_every", [1, 3])
def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_resume_point(
    checkpoint_every, tmp_path, monkeypatch
):
    """From step 8 on the weights are poisoned by the update of step 7, whose own loss was finite."""
    config = tiny(steps=24, eval_every=4, checkpoint_every=checkpoint_every)
    update = Training.update

    def poisoned(training):
        update(training)
        if training.step == 8:
            training.weights.blocks[0].mlp[0].weight.data[0, 0] = float("nan")

    monkeypatch.setattr(Training, "update", poisoned)
    with pytest.raises(FloatingPointError, match=r"not finite since step 8 of .*the last good one") as error:
        train(config, tmp_path)
    sentence(error)
    path = tmp_path / config.name
    good = {1: 7, 3: 6}[checkpoint_every]
    assert load_state(path / "resume.safetensors", config.name)[1]["step"] == good
    assert list(Run(path).metrics["step"]) == [0, 4]  # nor is the poisoned model scored or kept
    assert 8 not in Run(path).steps and not Run(path).finished
    monkeypatch.undo()
    assert_identical(train(config, tmp_path), train(config, tmp_path / "straight"))


def test_a_huge_learning_rate_is_stopped(tmp_path, monkeypatch):
    config = tiny(lr=1e30, warmup_steps=0, weight_decay=0.0)
    with pytest.raises(FloatingPointError, match=r"since step [12] of .*resume point: none.*[Ll]ower lr"):
        train(config, tmp_path)
    monkeypatch.setattr(sys, "argv", ["modgrok", *command(config, tmp_path)[3:]])
    with pytest.raises(SystemExit, match=r"^modgrok: the loss is not finite since step"):
        main()


def test_provenance_lists_every_session(tmp_path):
    stopped_at(8, tmp_path)
    assert json.loads((train(CONFIG, tmp_path).path / "provenance.json").read_text())["processes"] == [1, 1]
