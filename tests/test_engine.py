"""What a step computes with: the choice, and that every choice computes the same."""

import itertools
import os
import platform
import resource
import subprocess
import sys

import pytest
import torch
from tiny import ENV, sentence, tiny

from modgrok.config import preset
from modgrok.data import Data
from modgrok.model import Transformer, explicit_attention
from modgrok.train import train
from modgrok.training import engine

LONG = preset("laptop")


@pytest.fixture
def machine(monkeypatch):
    """A machine with or without a GPU, bf16 instructions, a C++ compiler."""

    def make(gpu: bool = False, bf16: bool = False, compiler: bool = True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(engine, "bf16_hardware", lambda: bf16)
        failure = None if compiler else "no C++ compiler"
        monkeypatch.setattr(engine, "compile_failure", lambda device: failure)

    return make


def test_a_cpu_without_bf16_instructions_stays_in_float32(machine):
    machine()
    assert engine.arithmetic(LONG)[:3] == (False, False, True)


def test_a_cpu_with_them_writes_attention_out_and_compiles(machine):
    machine(bf16=True)
    assert engine.arithmetic(LONG)[:3] == (True, True, True)


def test_without_a_compiler_nothing_is_compiled_and_bf16_does_not_pay(machine):
    machine(bf16=True, compiler=False)
    assert engine.arithmetic(LONG)[:3] == (False, False, False)


def test_a_short_run_is_not_worth_compiling(machine):
    machine(bf16=True)
    assert engine.arithmetic(preset("smoke"))[:3] == (False, False, False)


class Toy(torch.nn.Module):
    """A model that compiles in a second."""

    def __init__(self, width: int):
        super().__init__()
        self.linear = torch.nn.Linear(width, width)

    def forward(self, numbers):
        return self.linear(numbers).relu()


@pytest.mark.slow
def test_every_model_of_a_process_is_compiled(tmp_path, monkeypatch):
    """However many came before it: torch gives up after so many, and what it then computes is rounded otherwise."""
    if failure := engine.compile_failure("cpu"):
        pytest.skip(f"torch.compile does not work here: {failure}")
    monkeypatch.setattr(engine, "WORTH_COMPILING", 0)
    with torch._dynamo.config.patch(recompile_limit=1, fail_on_recompile_limit_hit=True):
        for width in (2, 3):
            toy = Toy(width)
            compiled = engine.make_accelerator(tiny(), tmp_path).prepare(toy)
            numbers = torch.ones(1, width)
            torch.testing.assert_close(compiled(numbers), toy(numbers))
            compiled(numbers).sum().backward()
            assert toy.linear.weight.grad is not None
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1


def test_a_tracker_that_is_not_installed_is_no_silent_training_without(tmp_path, monkeypatch):
    monkeypatch.setattr("accelerate.tracking.is_wandb_available", lambda: False)
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: [])
    with (
        pytest.warns(UserWarning),
        pytest.raises(ModuleNotFoundError, match="--log-with wandb needs a package: pip install wandb"),
    ):
        engine.make_accelerator(LONG, tmp_path, log_with="wandb")


def test_what_the_config_asks_for_is_taken(machine):
    machine(bf16=True)
    assert not engine.arithmetic(preset("laptop", mixed_precision="no")).bf16
    machine()
    assert engine.arithmetic(preset("laptop", mixed_precision="bf16")).bf16


def test_a_gpu_compiles_and_keeps_fused_attention(machine):
    machine(gpu=True)
    assert engine.arithmetic(preset("paper"))[:3] == (True, False, True)


def test_one_thread_unless_the_user_says_otherwise(monkeypatch, request):
    request.addfinalizer(lambda: torch.set_num_threads(1))
    torch.set_num_threads(3)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with engine.one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with engine.one_thread():
        assert torch.get_num_threads() == 3


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_a_step_finds_the_memory_of_the_last_one():
    """It holds until the process ends, as after any training."""
    engine.keep_memory()
    faults = []
    for _ in range(10):
        torch.zeros(2**24)  # 64 MB, 16384 pages
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    assert (
        min(after - before for before, after in itertools.pairwise(faults)) < 100
    )  # the system may take some back


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_attention_written_out_has_the_same_logits_and_gradients(depth):
    config = tiny(depth=depth)
    model = Transformer(config).init_weights(torch.Generator().manual_seed(0)).double().train()
    tokens = Data(config).batch(0)
    results = []
    for model.explicit in (False, True):
        model.zero_grad()
        logits = model(tokens)
        logits.square().sum().backward()
        results.append([logits.detach(), *(weight.grad.clone() for weight in model.parameters())])
    for fused, explicit in zip(*results, strict=True):
        torch.testing.assert_close(explicit, fused)


def test_attention_written_out_sees_what_the_mask_allows():
    q, k, v = torch.randn(3, 1, 2, 4, 6, generator=torch.Generator().manual_seed(0))
    mask = torch.eye(4, dtype=torch.bool)
    torch.testing.assert_close(explicit_attention(q, k, v, mask), v)


def test_arithmetic_is_named_in_words():
    names = {str(engine.Arithmetic(*choice)) for choice in itertools.product((False, True), repeat=3)}
    assert len(names) == 8 and "float32, fused attention, compiled" in names


def test_a_failure_to_compile_is_recorded(machine, tmp_path, monkeypatch):
    machine(compiler=False)
    monkeypatch.setattr(engine, "WORTH_COMPILING", 0)
    run = train(tiny(), tmp_path)
    assert run.provenance["arithmetic"][0].startswith(
        "float32, fused attention, not compiled (no C++ compiler)"
    )


VARIABLES = {
    "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "5",
    "ACCELERATE_USE_DEEPSPEED": "true",
    "ACCELERATE_USE_MEGATRON_LM": "true",
    "ACCELERATE_TORCH_DEVICE": "meta",
}


@pytest.mark.parametrize("name", VARIABLES)
def test_a_variable_that_asks_for_something_else_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.setenv(name, VARIABLES[name])
    with pytest.raises(ValueError, match=name) as error:
        train(tiny(), tmp_path / "runs")
    sentence(error)
    assert not (tmp_path / "runs").exists()


def test_what_accelerate_took_is_compared(tmp_path):
    accelerator = engine.make_accelerator(tiny(), tmp_path, accumulate=2)
    float32 = engine.Arithmetic(False, False, False)
    engine.check_accelerator(accelerator, float32, 2)
    for steps, accumulate, name in (
        (float32, 1, "micro-batches"),
        (float32._replace(bf16=True), 2, "precision"),
    ):
        with pytest.raises(ValueError, match=f"Accelerate took .*{name}") as error:
            engine.check_accelerator(accelerator, steps, accumulate)
        sentence(error)


def test_options_of_compilation_are_not_taken_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_DYNAMO_MODE", "max-autotune")
    monkeypatch.setenv("ACCELERATE_DYNAMO_USE_DYNAMIC", "true")
    plugin = engine.make_accelerator(tiny(), tmp_path).state.dynamo_plugin
    assert plugin.mode == "default" and plugin.dynamic is False


def test_another_default_type_is_refused(tmp_path):
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(ValueError, match=r"torch.float64 on cpu; training needs"):
            train(tiny(), tmp_path / "runs")
    finally:
        torch.set_default_dtype(torch.float32)


def test_compiling_that_is_switched_off_is_noticed_before():
    with torch._dynamo.config.patch(disable=True):
        assert engine.compile_failure.__wrapped__("cpu") == "TORCH_COMPILE_DISABLE turns it off"


PROBE = "from modgrok.training.engine import compile_failure; print(compile_failure('cpu'))"


@pytest.mark.slow
def test_a_compiler_without_headers_is_noticed_before(tmp_path):
    """It only answers questions. In a process of its own: torch looks for a compiler once."""
    compiler = tmp_path / "g++"
    script = "#!/bin/sh\n[ $1 = --version ] && exit 0\necho 'fatal error: no headers' >&2; exit 1\n"
    compiler.write_text(script)
    compiler.chmod(0o755)
    variables = {"CXX": str(compiler), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    argv = [sys.executable, "-c", PROBE]
    process = subprocess.run(argv, env=ENV | variables, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    assert process.stdout.strip() != "None" and len(process.stdout) < 250


def test_a_cache_folder_that_cannot_be_made_hinders_no_training(tmp_path, monkeypatch, capsys):
    """The variable is taken away before torch looks for the folder and fails."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "/proc/none")
    make, folders = engine.TorchDynamoPlugin, []

    def make_plugin(**options):
        folders.append(os.environ.get("TORCHINDUCTOR_CACHE_DIR"))
        return make(**options)

    monkeypatch.setattr(engine, "TorchDynamoPlugin", make_plugin)
    assert train(tiny(), tmp_path).finished
    assert "TORCHINDUCTOR_CACHE_DIR=/proc/none cannot be made" in capsys.readouterr().out
    assert folders and "/proc/none" not in folders
