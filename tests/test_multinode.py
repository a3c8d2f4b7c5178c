"""Two machines, simulated as two launchers on the loopback interface."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np

from modgrok.config import preset
from modgrok.storage.runs import Run
from modgrok.train import train

ROOT = Path(__file__).resolve().parent.parent


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_two_machines_give_the_metrics_of_one(tmp_path):
    config, port, processes = preset("smoke"), free_port(), []
    for rank in (1, 0):
        command = [Path(sys.executable).with_name("accelerate"), "launch"]
        command += [
            "--config_file",
            str(ROOT / "scripts" / "accelerate_2nodes.yaml"),
            "--machine_rank",
            str(rank),
        ]
        command += ["--num_processes", "2", "--main_process_ip", "127.0.0.1", "--main_process_port", port]
        command += ["-m", "modgrok", "train", "smoke", "--root", str(tmp_path / "two")]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        processes.append(
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
            )
        )
    output = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(output)
    assert "on 2 process(es)" in output[1]  # the first machine prints
    two_machines, one_machine = Run(tmp_path / "two" / config.name), train(config, tmp_path / "one")
    assert two_machines.provenance["processes"] == [2]
    for name, values in one_machine.metrics.items():
        np.testing.assert_allclose(two_machines.metrics[name], values, atol=1e-5, rtol=0, err_msg=name)
