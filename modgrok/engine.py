"""What a training step computes with on this machine: number format, attention, compilation, threads, Muon.

A GPU takes bf16, fused attention and torch.compile. CPUs differ: those with bf16 instructions (AMX, AVX512-BF16)
multiply matrices two to ten times faster in bf16, but torch's fused attention and its backward do not profit, so
attention is written out and compiled there; on other CPUs bf16 is slower by orders of magnitude, and all
stays float32.
`python -m modgrok bench` measures the candidates.
"""

import contextlib
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from modgrok.config import Config
from modgrok.model import flops_per_step

WORTH_COMPILING = 5e12
"""Operations of a whole run from which compiling pays: a minute of one core, where compiling takes half of one."""


class Arithmetic(NamedTuple):
    """How a step is computed; the same numbers but for rounding.

    Attributes:
        bf16: matrix products in bf16, by autocast.
        explicit: attention written out, which compiled bf16 on a CPU needs; else torch's fused one.
        compiled: by torch.compile.
    """

    bf16: bool
    explicit: bool
    compiled: bool

    def __str__(self) -> str:
        words = [
            "bf16" if self.bf16 else "float32",
            "explicit attention" if self.explicit else "fused attention",
        ]
        return ", ".join(words + ["compiled"] * self.compiled)


def arithmetic(config: Config) -> Arithmetic:
    """The fastest arithmetic that this machine has for a config."""
    if torch.cuda.is_available():
        return Arithmetic(config.mixed_precision != "no", explicit=False, compiled=True)
    compiled = config.steps * flops_per_step(config) > WORTH_COMPILING and has_compiler()
    fast = {"auto": compiled and bf16_hardware(), "bf16": True, "no": False}[config.mixed_precision]
    return Arithmetic(fast, explicit=fast and compiled, compiled=compiled)


def reason(config: Config) -> str:
    """Why `arithmetic` chooses what it does here, in a sentence."""
    chosen = arithmetic(config)
    if torch.cuda.is_available():
        return "a GPU multiplies fastest in bf16 and pays for compiling at once"
    if config.mixed_precision != "auto":
        return f"mixed_precision={config.mixed_precision!r} asks for it"
    if not has_compiler():
        return (
            "torch.compile finds no C++ compiler here; with one (g++, or the variable CXX) steps are shorter"
        )
    if not chosen.compiled:
        return "the run is too short for compiling, which takes half a minute, to pay"
    if not chosen.bf16:
        return (
            "this CPU has no bf16 instructions, so that bf16 would be many times slower, Muon's own included"
        )
    return "this CPU has bf16 instructions, which pay with attention written out and compiled"


def bf16_hardware() -> bool:
    """Whether this CPU has instructions for bf16 products."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def has_compiler() -> bool:
    """Whether torch.compile finds the C++ compiler that it needs on a CPU."""
    return shutil.which(os.environ.get("CXX", "g++")) is not None


def processor() -> str:
    """The name of the CPU and the bf16 instructions that it has."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        amx = "AMX" * torch.cpu._is_amx_tile_supported()
        return f"{name} ({amx or 'AVX512-BF16' * torch.cpu._is_avx512_bf16_supported() or 'no bf16'})"
    return platform.processor() or platform.machine()


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


class Muon(torch.optim.Muon):
    """torch's Muon for a CPU: matrices of one shape go through Newton–Schulz together, and in float32.

    torch's own goes through bf16, which without bf16 instructions takes two thirds of a step.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            same: dict[torch.Size, list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    same.setdefault(weight.shape, []).append(weight)
            for (rows, columns), weights in same.items():
                grads = torch.stack([weight.grad for weight in weights])
                for weight in weights:
                    state = self.state[weight]
                    state.setdefault("momentum_buffer", torch.zeros_like(weight))
                    state["momentum_buffer"].lerp_(weight.grad, 1 - group["momentum"])
                momenta = torch.stack([self.state[weight]["momentum_buffer"] for weight in weights])
                update = grads.lerp(momenta, group["momentum"]) if group["nesterov"] else momenta
                update = orthogonalised(update, group["ns_coefficients"], group["ns_steps"], group["eps"])
                scale = max(1, rows / columns) ** 0.5
                for weight, change in zip(weights, update, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    weight.add_(change, alpha=-group["lr"] * scale)


def orthogonalised(x: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Newton–Schulz: matrices (n, rows, columns) with all singular values brought near 1."""
    if x.shape[-2] > x.shape[-1]:
        return orthogonalised(x.mT, coefficients, steps, eps).mT
    a, b, c = coefficients
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x
