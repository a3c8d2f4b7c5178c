"""Kills of trainings, launchers, sweeps and builds in real processes; more of them: scripts/kill_trees.py."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import ENV, ROOT


def test_whatever_is_killed_leaves_no_process_and_goes_on():
    """One random kill of each kind."""
    script = [sys.executable, ROOT / "scripts" / "kill_trees.py", "4", "--seed", "7"]
    made = subprocess.run(script, env=ENV, text=True, capture_output=True, timeout=1100)
    assert made.returncode == 0, made.stdout + made.stderr
    assert made.stdout.rstrip().endswith("nothing left, all bit for bit as in peace")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks the kernel")
@pytest.mark.parametrize("adopted", [True, False])
def test_a_process_whose_launcher_has_already_ended_does_not_wait_for_it(adopted):
    code = "import os; from modgrok.training.process import die_with_parent\n"
    code += "os.getppid = lambda: 1\n" * adopted
    alive = subprocess.run([sys.executable, "-c", code + "die_with_parent()"], env=ENV)
    launcher_is_first = b"python" in Path("/proc/1/cmdline").read_bytes()
    assert alive.returncode == (-signal.SIGKILL if adopted and not launcher_is_first else 0)
