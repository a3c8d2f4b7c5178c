"""Launchers that are killed, in real processes; more kills, and of sweeps and builds: scripts/kill_trees.py."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import ENV, assert_same_metrics, command, evaluations, processes, start, tiny, wait_for

from modgrok.train import train

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the kernel")


@linux
def test_a_killed_launcher_leaves_no_process_and_its_training_goes_on(tmp_path):
    config = tiny(
        p=2, n_tasks=1, batch_size=2, alpha=0.5, depth=1, steps=800, eval_every=50, checkpoint_every=20
    )
    torchrun = Path(sys.executable).with_name("torchrun")
    launcher = start(command(config, tmp_path, torchrun, "--nproc_per_node", "2"))
    wait_for(lambda: evaluations(tmp_path / config.name) > 1, launcher)
    assert len(processes(str(tmp_path))) == 3
    launcher.kill()
    launcher.communicate(timeout=60)  # until nobody can write to its pipes
    assert not processes(str(tmp_path))
    run = train(config, tmp_path)
    assert run.provenance["processes"] == [2, 1]
    assert_same_metrics(run, train(config, tmp_path / "straight"), atol=1e-4)


@linux
@pytest.mark.parametrize("adopted", [True, False])
def test_a_process_whose_launcher_has_already_ended_does_not_wait_for_it(adopted):
    code = "import os; from modgrok.training.process import die_with_parent\n"
    code += "os.getppid = lambda: 1\n" * adopted
    alive = subprocess.run([sys.executable, "-c", code + "die_with_parent()"], env=ENV)
    launcher_is_first = b"python" in Path("/proc/1/cmdline").read_bytes()
    assert alive.returncode == (-signal.SIGKILL if adopted and not launcher_is_first else 0)
