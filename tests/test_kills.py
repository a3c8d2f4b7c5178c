"""Kills of trainings, launchers, sweeps and builds in real processes; more of them: scripts/kill_trees.py."""

import subprocess
import sys

from tiny import ENV, ROOT


def test_whatever_is_killed_leaves_no_process_and_goes_on():
    """One random kill of each kind."""
    script = [sys.executable, ROOT / "scripts" / "kill_trees.py", "4", "--seed", "7"]
    made = subprocess.run(script, env=ENV, text=True, capture_output=True, timeout=1100)
    assert made.returncode == 0, made.stdout + made.stderr
    assert made.stdout.rstrip().endswith("nothing left, all bit for bit as in peace")
