"""How a training step is computed on this machine: processes, number format, attention, compilation, threads.

A GPU takes bf16, fused attention and torch.compile. CPUs differ: those with bf16 instructions (AMX, AVX512-BF16)
multiply matrices two to ten times faster in bf16, but torch's fused attention and its backward do not profit, so
attention is written out and compiled there; on other CPUs bf16 is slower by orders of magnitude, and everything
stays in float32. Where torch.compile does not work, nothing is compiled.
`python -m modgrok bench` measures the candidates.
"""

import contextlib
import ctypes
import functools
import math
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, GradientAccumulationPlugin, TorchDynamoPlugin

from modgrok.config import Config, nearest_multiple
from modgrok.data import check_count
from modgrok.model import flops_per_step, n_weights

WORTH_COMPILING = 5e12
"""Operations of a whole run from which compiling pays: a minute of one core, where compiling takes half of one."""


class Arithmetic(NamedTuple):
    """How a step is computed; the same numbers but for rounding.

    Attributes:
        bf16: matrix products in bf16, by autocast.
        explicit: attention written out, which compiled bf16 on a CPU needs; else torch's fused one.
        compiled: by torch.compile.
        failure: why torch.compile does not work, where that is the reason for not compiling.
    """

    bf16: bool
    explicit: bool
    compiled: bool
    failure: str | None = None

    def __str__(self) -> str:
        words = ["bf16" if self.bf16 else "float32", f"{'explicit' if self.explicit else 'fused'} attention"]
        words += ["compiled"] * self.compiled
        words += [f"not compiled ({self.failure})"] * bool(self.failure)
        return ", ".join(words)


def arithmetic(config: Config) -> Arithmetic:
    """The fastest arithmetic that works on this machine for a config."""
    is_gpu = torch.cuda.is_available()
    is_worth_it = is_gpu or worth_compiling(config)
    failure = compile_failure("cuda" if is_gpu else "cpu") if is_worth_it else None
    is_compiled = is_worth_it and failure is None
    is_fast = is_gpu or (is_compiled and bf16_hardware())
    is_bf16 = {"auto": is_fast, "bf16": True, "no": False}[config.mixed_precision]
    return Arithmetic(is_bf16, is_bf16 and is_compiled and not is_gpu, is_compiled, failure)


def worth_compiling(config: Config) -> bool:
    """Whether a run is long enough for compiling, which takes half a minute, to pay."""
    return config.steps * flops_per_step(config) > WORTH_COMPILING


def bf16_hardware() -> bool:
    """Whether this CPU has instructions for bf16 products."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@functools.cache
def compile_failure(device: str) -> str | None:
    """Why torch.compile does not work on a device, "cpu" or "cuda", in a few words, or None if it does.

    Compiles a trivial function, which takes some seconds the first time: a compiler may lack headers, or the cache
    folder may be missing or not allow programs.
    """
    check_cache_folder()
    if torch._dynamo.config.disable:
        return "TORCH_COMPILE_DISABLE turns it off"
    if device == "cpu" and shutil.which(os.environ.get("CXX", "g++")) is None:
        return "no C++ compiler; g++ is one, and the variable CXX may name another"
    try:
        with torch._dynamo.config.patch(suppress_errors=False):
            torch.compile(lambda numbers: numbers + 1)(torch.ones(2, device=device))
    except Exception as error:  # of the compiler, the linker or the file system
        lines = str(error).splitlines() or ["no message"]
        message = next((line for line in lines if "error" in line.lower()), lines[0])
        return "".join(filter(str.isprintable, f"{type(error).__name__}: {message.strip()}"))[:200]
    return None


def check_cache_folder() -> None:
    """Unset a TORCHINDUCTOR_CACHE_DIR that cannot be made: torch would fail, even where nothing is compiled."""
    if folder := os.environ.get("TORCHINDUCTOR_CACHE_DIR"):
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            print(f"TORCHINDUCTOR_CACHE_DIR={folder} cannot be made ({error.strerror}) and is not used.")
            del os.environ["TORCHINDUCTOR_CACHE_DIR"]


def processor() -> str:
    """The name of the CPU and the bf16 instructions that it has."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        amx = "AMX" * torch.cpu._is_amx_tile_supported()
        return f"{name} ({amx or 'AVX512-BF16' * torch.cpu._is_avx512_bf16_supported() or 'no bf16'})"
    return platform.processor() or platform.machine()


def peak_flops() -> float | None:
    """Dense bf16 operations a second of the GPU in use, by its data sheet; None for others and for CPUs."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    peaks = {"H200": 989e12, "H100": 989e12, "A100": 312e12}
    return next((peak for kind, peak in peaks.items() if kind in name), None)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One CPU thread, unless OMP_NUM_THREADS says otherwise: a second one gains a third on an idle machine and
    loses a factor of fifty on a busy one, where every barrier waits for the busy core."""
    before = torch.get_num_threads()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_memory() -> None:
    """Let glibc keep what a step frees for the next one; nothing elsewhere, and nothing to a result.

    By default it returns large buffers to the system, which clears and maps them anew at every step: thousands of page
    faults, some hundredths of a step. Holds until the process ends, whose peak of memory stays what it was.
    """
    trim_threshold, mmap_max = -1, -4  # as malloc.h numbers the parameters of mallopt
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(trim_threshold, -1)  # never give back the top of the heap
        ctypes.CDLL(None).mallopt(mmap_max, 0)  # and have everything on the heap


def make_accelerator(
    config: Config, path: Path, accumulate: int = 1, log_with: str | None = None
) -> Accelerator:
    """The object that distributes a training over processes and computes its steps; arguments as for `train.train`.

    Trackers write into path, the run's folder.

    Raises:
        ValueError: the environment or torch's defaults ask for something else.
        ModuleNotFoundError: the tracker is not installed.
    """
    check_environment(accumulate)
    check_cache_folder()
    AcceleratorState._reset_state()  # a process may train one config in float32 and the next in bf16
    torch.compiler.reset()  # after eight models torch would compile no more, be slower and round otherwise
    steps = arithmetic(config)
    if not torch.cuda.is_available():
        keep_memory()
    # in full: Accelerate takes what is not passed from variables of the environment
    options = {"mode": "default", "fullgraph": False, "use_regional_compilation": False}
    dynamo = TorchDynamoPlugin(backend="inductor" if steps.compiled else "no", **options)
    dynamo.dynamic = False  # compiled once for each length of sequences: kernels for any length are slower
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),  # without it Accelerate overlooks torchrun on CPUs
        mixed_precision="bf16" if steps.bf16 else "no",
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=accumulate),
        log_with=log_with,
        project_dir=path,
        dynamo_plugin=dynamo,
    )
    if log_with and not accelerator.log_with:
        raise ModuleNotFoundError(f"--log-with {log_with} needs a package: pip install {log_with}")
    check_accelerator(accelerator, steps, accumulate)
    return accelerator


def check_environment(accumulate: int) -> None:
    """Raise ValueError where a variable of the environment, or a default of torch, would change a training unseen."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    requested = {
        "ACCELERATE_TORCH_DEVICE": device,
        "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": str(accumulate),
    }
    for name, value in os.environ.items():
        is_way = name.startswith("ACCELERATE_USE_") and value.lower() in ("true", "1", "yes")
        is_other = name in requested and value.split(":")[0] != requested[name]
        if is_other or (is_way and name != "ACCELERATE_USE_CPU"):
            raise ValueError(f"{name}={value} asks for another training than the one requested; unset it.")
    if torch.get_default_dtype() != torch.float32 or torch.get_default_device().type != "cpu":
        raise ValueError(
            f"torch's defaults are {torch.get_default_dtype()} on {torch.get_default_device()}; training needs "
            "torch.set_default_dtype(torch.float32) and torch.set_default_device('cpu')."
        )


def check_accelerator(accelerator: Accelerator, steps: Arithmetic, accumulate: int) -> None:
    """Raise ValueError if Accelerate took something else than it was asked for."""
    kinds = (DistributedType.NO, DistributedType.MULTI_CPU, DistributedType.MULTI_GPU)
    options = {
        "device": (accelerator.device.type, "cuda" if torch.cuda.is_available() else "cpu"),
        "mixed precision": (accelerator.mixed_precision, "bf16" if steps.bf16 else "no"),
        "micro-batches": (accelerator.gradient_accumulation_steps, accumulate),
        "compilation": (accelerator.state.dynamo_plugin.backend.value, ("NO", "INDUCTOR")[steps.compiled]),
        "data parallelism": (accelerator.distributed_type in kinds, True),
    }
    for name, (value, requested) in options.items():
        if value != requested:
            raise ValueError(
                f"Accelerate took {name} {value} where {requested} was asked for; unset ACCELERATE_… and see "
                "`accelerate env`."
            )


def check_divides(config: Config, processes: int, accumulate: int) -> None:
    """Raise ValueError, with the nearest size, if processes and micro-batches cannot share a batch evenly."""
    check_count(accumulate, "accumulate")
    parts = processes * accumulate
    if config.batch_size % parts:
        unit = math.lcm(parts, config.n_tasks if config.balanced else 1)
        nearest = nearest_multiple(config.batch_size, unit)
        raise ValueError(
            f"batch_size={config.batch_size} does not divide into {processes} processes × {accumulate} "
            f"micro-batches; sizes that do are the multiples of {unit}, the nearest is {nearest}."
        )


def check_memory(config: Config, accelerator: Accelerator) -> None:
    """Raise ValueError, naming the field that needs most, if a training cannot fit, before anything is created."""
    needs = memory(config, accelerator.num_processes, accelerator.gradient_accumulation_steps)
    if accelerator.device.type == "cuda":
        free = torch.cuda.mem_get_info(accelerator.device)[0]
    else:
        free = psutil.virtual_memory().available / accelerator.num_processes
    if sum(needs.values()) > free:
        name = max(needs, key=needs.get)
        raise ValueError(
            f"{name}={getattr(config, name)} needs at least {sum(needs.values()) / 1e9:.3g} GB with the other fields "
            f"as they are, and {free / 1e9:.3g} GB are free; lower it, or use more processes or micro-batches."
        )


def memory(config: Config, processes: int = 1, accumulate: int = 1) -> dict[str, float]:
    """Bytes that a process needs at the least, by the field that they grow with."""
    c, length = config, 3 * config.n_examples
    width = 2 if c.mixed_precision == "bf16" else 4
    parameters = n_weights(c)
    sequences = c.batch_size / processes / accumulate
    return {
        "n_embd": 16.0 * parameters,  # weights, gradients and two moments, float32
        "batch_size": sequences * length * (c.depth * 10 * c.n_embd * width + 24)
        + sequences * c.n_examples * c.p * 8
        + c.batch_size * length * 8,  # every process draws the whole batch
        "eval_sequences": c.eval_sequences / processes * c.n_examples * 4 * 4 * (c.p * 4 + 8),
        "p": 64.0 * c.p**2,
    }
