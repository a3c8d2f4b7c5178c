"""Two machines, simulated as two launchers on the loopback interface."""

import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
from tiny import ENV, ROOT, command, short

from modgrok.storage.runs import Run
from modgrok.train import train


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_two_machines_give_the_metrics_of_one(tmp_path):
    config, port, processes = short(), free_port(), []
    accelerate = Path(sys.executable).with_name("accelerate")
    settings = (accelerate, "launch", "--config_file", ROOT / "scripts" / "accelerate_2nodes.yaml")
    network = ("--main_process_ip", "127.0.0.1", "--main_process_port", port)
    for rank in ("1", "0"):
        launcher = (*settings, "--machine_rank", rank, "--num_processes", "2", *network)
        processes.append(
            subprocess.Popen(
                command(config, tmp_path / "two", *launcher),
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=ENV | {"CUDA_VISIBLE_DEVICES": ""},
            )
        )  # fmt: skip
    output = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(output)
    assert "on 2 process(es)" in output[1]  # the first machine prints
    two_machines, one_machine = Run(tmp_path / "two" / config.name), train(config, tmp_path / "one")
    assert two_machines.provenance["processes"] == [2]
    for name, values in one_machine.metrics.items():
        np.testing.assert_allclose(two_machines.metrics[name], values, atol=1e-5, rtol=0, err_msg=name)
