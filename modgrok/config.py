"""What a run is: one flat dataclass, its validation, the presets and the run's name."""

import dataclasses
import difflib
import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, NamedTuple, get_args, get_origin

SETS = ("id_train", "id_test", "ood_train", "ood_test")
"""The four evaluation sets: pre-training (id) or held-out (ood) tasks × training or test inputs."""

LIMITS = {
    "p": 251, "n_examples": 10_000, "depth": 1000, "n_embd": 2**17, "n_head": 2**16,
    "batch_size": 10**9, "steps": 10**9, "eval_every": 10**9, "checkpoint_every": 10**9, "eval_sequences": 10**8,
    "n_checkpoints": 10_000,
}  # fmt: skip
"""What no machine gets beyond; memory sets narrower bounds when training starts."""

MAX_LENGTHS = 8
"""Numbers of examples that the phases of a run may have: the model is compiled once for each."""


class Phase(NamedTuple):
    """A stretch of a training run: where the input pairs of its sequences come from, and when it ends.

    A line is the set of the pairs (x, y) ≠ (0, 0) that are multiples of one pair; p + 1 of them fill the plane.

    Attributes:
        counts: numbers of lines or pairs; each sequence of a batch draws one of these numbers, then so many different
            lines, or pairs, then its examples from these. 0 stands for the paper's uniform pairs.
        n_examples: examples in a sequence.
        steps: optimizer steps after which the phase ends at the latest; None for the last phase, which ends the run.
        margin: the phase ends sooner, as soon as the training loss is below its floor plus so many nats (see
            `data.Data.floor`); 0 for a phase that always takes all its steps.
        lr_factor: factor on the learning rate of every optimizer.
        unit: what is counted, "lines" or "pairs".
    """

    counts: tuple[int, ...]
    n_examples: int
    steps: int | None = None
    margin: float = 0.0
    lr_factor: float = 1.0
    unit: Literal["lines", "pairs"] = "lines"

    def __str__(self) -> str:
        """The phase as `Config.curriculum` writes it."""
        steps = "" if self.steps is None else f"{self.steps}"
        margin = _decimal(self.margin) if self.margin else ""
        lr_factor = _decimal(self.lr_factor) if self.lr_factor != 1 else ""
        unit = "p" if self.unit == "pairs" else ""
        pairs = "+".join(map(str, self.counts)) + f"{unit}x{self.n_examples}"
        return ":".join([pairs, steps, margin, lr_factor]).rstrip(":")


@dataclass(frozen=True)
class Config:
    """One training run. The defaults are the paper's d = 2 model (section "Setting" of the paper).

    Raises:
        ValueError: one sentence naming the field, its value, what is allowed and the nearest valid choice.
    """

    p: int = 29  # modulus, a prime; tokens are the numbers 0 … p-1
    n_tasks: int = 512  # pre-training tasks (a, b) out of the p² possible
    task_rule: Literal["rectangle", "random"] = "rectangle"  # how the pre-training tasks are chosen
    alpha: float = 0.6  # fraction of the p² input pairs (x, y) used in training, the same for every task
    n_examples: int = 32  # examples x y z in a sequence; the last is answered after n_examples-1 shots

    depth: int = 2  # transformer blocks
    n_embd: int = 512  # width of the residual stream
    n_head: int = 4  # attention heads per block
    rope_base: float = 10000.0  # base of the rotary position frequencies
    init_std: float = 0.02  # standard deviation of the initial matrices; 0.1 shortens the first plateau

    optimizer: Literal["adamw", "muon"] = "adamw"  # muon: Muon on block matrices, AdamW on the rest
    lr: float = 1.5e-4  # AdamW's peak learning rate
    muon_lr: float = 0.01  # Muon's peak learning rate; unused by adamw
    weight_decay: float = 2.0  # every matrix shrinks by lr * weight_decay a step, under both optimizers
    betas: tuple[float, float] = (0.9, 0.98)  # AdamW's moment decay rates
    warmup_steps: int = 10_000  # linear warm-up from 1 % of the peak learning rate
    lr_schedule: Literal["cosine", "constant"] = "cosine"  # after warm-up: cosine to 10 % at the end, or flat
    steps: int = 200_000  # optimizer steps
    batch_size: int = 1024  # sequences a step over all processes
    balanced: bool = True  # whether a batch holds every task equally often; else tasks are drawn
    curriculum: str = ""  # phases LINESxEXAMPLES:STEPS:MARGIN:RATE, see `parse_curriculum`
    mixed_precision: Literal["auto", "no", "bf16"] = "bf16"  # autocast; auto: what is fast on this machine
    shared_pairs: bool = True  # whether all tasks of a batch see the same pairs, as in the paper

    seed: int = 0  # determines tasks, input split, initial weights and every batch
    eval_every: int = 1000  # steps between evaluations on the four sets
    eval_sequences: int = 4096  # independent sequences of each of the four evaluation sets
    n_checkpoints: int = 12  # weights kept along the way, log-spaced in steps, the last one included
    checkpoint_every: int = field(default=1000, metadata={"result": False})  # steps between resume points

    def __post_init__(self):
        for f in dataclasses.fields(self):
            check_type(f.name, getattr(self, f.name), f.type)
            if f.type is float:  # 100 and 100.0 are one run, so they must hash alike
                object.__setattr__(self, f.name, float(getattr(self, f.name)))
        object.__setattr__(self, "betas", tuple(float(b) for b in self.betas))
        object.__setattr__(self, "curriculum", " ".join(map(str, parse_curriculum(self.curriculum))))
        limit = LIMITS["p"]
        allowed = "must be prime" if self.p <= limit else f"must be prime and at most {limit}"
        self._require("p", self.p <= limit and is_prime(self.p), allowed, nearest_prime(self.p))
        self._check_tasks()
        pairs, n_train = self.p**2, n_training_pairs(self.p, min(max(0.0, self.alpha), 1.0))  # 0 for nan
        allowed = f"must leave at least one of the {pairs} pairs for training and one for testing"
        nearest = min(max(n_train, 1), pairs - 1) / pairs
        self._require("alpha", 0 < n_train < pairs, allowed, round(nearest, 8))
        self._check_numbers()
        self._check_curriculum()

    def _check_tasks(self):
        n, p = self.n_tasks, self.p
        if self.task_rule == "random":
            self._require_between("n_tasks", 1, p * p)
            return
        # two cells a row and rectangle leave one unused in an odd row; beyond p = 13 the search for the last
        # few rectangles would take long, or fail for some seeds
        limit = 4 * (p * (p - p % 2) // 4) if p <= 13 else 4 * int(0.94 * p * p / 4)
        if n > limit:
            raise ValueError(
                f"n_tasks={_short(n)} is more than the rectangular rule can place at p={p}: at most {limit}, "
                'or choose task_rule="random".'
            )
        self._require_multiple("n_tasks", 4, limit, 'of 4 under task_rule="rectangle"')

    def _check_numbers(self):
        for name in (name for name in LIMITS if name not in ("p", "n_embd", "batch_size")):
            self._require_between(name, 1, LIMITS[name])
        self._require_between("warmup_steps", 0, self.steps)
        self._require_between("seed", 0, 2**63 - 1)
        for name in ("lr", "muon_lr", "init_std"):
            default = type(self).__dataclass_fields__[name].default
            self._require(name, 0 < getattr(self, name) < math.inf, "must be positive and finite", default)
        for name, is_valid, allowed, nearest in (
            ("rope_base", 1 < self.rope_base < math.inf, "must be finite and greater than 1", 10000.0),
            ("weight_decay", 0 <= self.weight_decay < math.inf, "must be finite and at least 0", 0.0),
            ("betas", all(0 <= beta < 1 for beta in self.betas), "must lie in [0, 1)", (0.9, 0.98)),
        ):
            self._require(name, is_valid, allowed, nearest)
        unit = 2 * self.n_head  # rotary positions turn pairs of coordinates, so a head's width is even
        reason = f"of 2·n_head = {unit} (heads of equal, even width)"
        self._require_multiple("n_embd", unit, LIMITS["n_embd"], reason)
        unit = self.n_tasks if self.balanced else 1
        reason = f"of n_tasks = {unit} while balanced=True"
        self._require_multiple("batch_size", unit, LIMITS["batch_size"], reason)

    def _check_curriculum(self):
        end = 0
        for number, phase in enumerate(self.phases, start=1):
            is_last, count, end = number == len(self.phases), max(phase.counts), end + (phase.steps or 0)
            is_uniform = (phase.counts, phase.n_examples) == ((0,), self.n_examples)
            if phase.unit == "lines" and count > self.p + 1:
                fault = f"asks for {count} lines, and p = {self.p} has {self.p + 1}"
            elif phase.n_examples > self.n_examples:
                fault = (
                    f"asks for {phase.n_examples} examples, and a sequence has n_examples = {self.n_examples}"
                )
            elif not is_last and phase.steps is None:
                fault = "has no number of steps, which only the last phase may leave out"
            elif not is_last and end >= self.steps:
                fault = f"may last to step {end}, and steps = {self.steps} must leave some to uniform pairs"
            elif is_last and not is_uniform:
                fault = f"goes on to the end, so it must be 0x{self.n_examples}, the paper's uniform pairs"
            else:
                continue
            raise ValueError(f"curriculum={_short(self.curriculum)} is impossible: phase {number} {fault}.")
        if len({phase.n_examples for phase in self.phases}) > MAX_LENGTHS:
            raise ValueError(
                f"curriculum={_short(self.curriculum)} has sequences of more than {MAX_LENGTHS} different lengths; "
                "let some phases share theirs."
            )

    def _require(self, name: str, is_valid: bool, allowed: str, nearest: Any) -> None:
        if not is_valid:
            value = _short(getattr(self, name))
            raise ValueError(f"{name}={value} {allowed}; the nearest valid choice is {nearest!r}.")

    def _require_between(self, name: str, lowest: int, highest: int) -> None:
        nearest = min(max(getattr(self, name), lowest), highest)
        allowed = f"must lie between {lowest} and {highest}"
        self._require(name, getattr(self, name) == nearest, allowed, nearest)

    def _require_multiple(self, name: str, unit: int, limit: int, reason: str) -> None:
        value, limit = getattr(self, name), limit // unit * unit
        is_valid = unit <= value <= limit and value % unit == 0
        allowed = f"must lie between {unit} and {limit}" + (
            f" and be a multiple {reason}" if unit > 1 else ""
        )
        self._require(name, is_valid, allowed, min(nearest_multiple(value, unit), limit))

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The phases of the training run; the last one has the paper's uniform pairs and goes on to the end.

        They are those of `curriculum`. Unless its last phase leaves out the number of steps, uniform pairs at the
        full learning rate follow. Without a curriculum they are all there is.
        """
        phases = parse_curriculum(self.curriculum)
        is_complete = bool(phases) and phases[-1].steps is None
        return phases if is_complete else (*phases, Phase((0,), self.n_examples))

    @property
    def name(self) -> str:
        """Readable folder name ending in a hash of the fields that determine the result.

        Only fields that differ from their default enter the hash, so that a field added later, whose
        default keeps today's behaviour, leaves the names of existing runs alone.
        """
        fields = {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.metadata.get("result", True) and getattr(self, f.name) != f.default
        }
        digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:8]
        return (
            f"p{self.p}-n{self.n_tasks}-{self.task_rule}-a{self.alpha:g}-d{self.depth}-w{self.n_embd}"
            f"-{self.optimizer}-s{self.seed}-{digest}"
        )

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON-ready values."""
        return dataclasses.asdict(self) | {"betas": list(self.betas)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Config":
        """The config of a dictionary such as `to_dict` returns.

        Raises ValueError for an unknown field, with the nearest known name, or an invalid value.
        """
        for name in fields:
            if name not in cls.__dataclass_fields__:
                hint = advice(str(name), cls.__dataclass_fields__, "the fields are")
                raise ValueError(f"{_short(name)} is not a field of the config; {hint}")
        return cls(**fields)


LAPTOP = dict(
    p=7, n_tasks=40, alpha=0.8, n_examples=12, batch_size=160, depth=2, n_embd=64, n_head=2,
    rope_base=100.0, init_std=0.1, shared_pairs=False, optimizer="muon", lr=1e-3, muon_lr=0.01,
    weight_decay=0.9, warmup_steps=200, lr_schedule="constant", steps=4000, mixed_precision="auto",
    eval_every=200, eval_sequences=2048, n_checkpoints=24, checkpoint_every=500,
)  # fmt: skip

DESK = LAPTOP | dict(
    p=11, n_tasks=96, n_examples=16, batch_size=192, depth=4, n_head=4, steps=16_000, eval_every=250,
)  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "smoke": LAPTOP | dict(
        p=5, n_tasks=16, n_examples=8, batch_size=48, n_embd=16, steps=40, warmup_steps=4, optimizer="adamw",
        mixed_precision="no", eval_every=10, eval_sequences=256, n_checkpoints=4, checkpoint_every=20,
    ),
    "laptop": LAPTOP,
    "desk": DESK,
    "p13": DESK | dict(
        p=13, n_tasks=132, batch_size=264, steps=5000, curriculum="2px16:700:0.1 0x16:1500::0.5 0x16:::0.2",
    ),
    "p13-lines": DESK | dict(
        p=13, n_tasks=132, batch_size=264, steps=6000,
        curriculum="1x4:900:0.08 2x16:1500:0.15 2+4+0x16:1500:0.25 0x16:1500::0.5 0x16:::0.2",
    ),
    "p19": DESK | dict(
        p=19, n_tasks=256, batch_size=512, steps=7000,
        curriculum="1x4:1200:0.08 2x16:1500:0.15 2+4+0x16:1500:0.25 0x16:2000::0.5 0x16:::0.2",
    ),
    "p29": DESK | dict(
        p=29, n_tasks=512, batch_size=512, n_examples=32, steps=4500, eval_sequences=1024,
        curriculum="1x4:1200:0.1 2x16:1000:0.18 2+4+0x16:800:0.3 0x16:500::0.5 0x32:700::0.5 0x32:::0.2",
    ),
    "paper": {},
}  # fmt: skip
"""Name → fields that differ from the paper's."""

PRESET_COSTS = {
    "smoke": "seconds; to see that everything works",
    "laptop": "minutes on a CPU core, at p = 7; shows the phenomena",
    "desk": "an hour or two on a CPU core, at p = 11",
    "p13": "half an hour on a CPU core at p = 13, by a curriculum that begins with repeated pairs",
    "p13-lines": "half an hour on a CPU core at p = 13, by a curriculum of lines",
    "p19": "an hour and a quarter on a CPU core at p = 19, by a curriculum of lines",
    "p29": "an hour and a half on a CPU core at the paper's p = 29, by a curriculum of lines",
    "paper": "hours on a GPU; the paper's d = 2 model",
}
"""Name of a preset → how long a run of it takes."""


def check_config(config: object) -> None:
    """Raise ValueError unless it is a Config; the name of a preset is none."""
    if not isinstance(config, Config):
        raise ValueError(f'config={config!r} must be a Config, such as preset("smoke").')


def preset(name: str, **overrides: Any) -> Config:
    """A preset's config with some fields replaced.

    Raises ValueError for an unknown preset or field (with the nearest known name), or an invalid value.
    """
    if not isinstance(name, str) or name not in PRESETS:
        raise ValueError(f"preset={_short(name)} is not known; choose one of {', '.join(PRESETS)}.")
    return Config.from_dict(PRESETS[name] | overrides)


def advice(name: str, choices: Iterable[str], introduction: str) -> str:
    """Words about a wrong name: the most similar choice or, if none is similar, all of them after the introduction."""
    choices = list(choices)
    similar = difflib.get_close_matches(name[:40], choices, n=1)
    return f"did you mean {similar[0]}?" if similar else f"{introduction} {', '.join(choices)}."


_PHASE = re.compile(
    r"(?P<counts>\d{1,9}(\+\d{1,9})*)(?P<unit>p?)x(?P<n_examples>\d{1,9})"
    r"(:(?P<steps>\d{0,9})(:(?P<margin>0?[\d.]{0,9})(:(?P<lr_factor>0?[\d.]{1,9}))?)?)?"
)


def parse_curriculum(text: str) -> tuple[Phase, ...]:
    """The phases in a text such as "1x4:800:0.1:1, 1+2+4x8:600, 0x12:::0.5", separated by commas or spaces.

    A phase is LINESxEXAMPLES:STEPS:MARGIN:RATE, or PAIRSpxEXAMPLES… such as "2px12:400"; what is left out at its end
    takes the defaults of `Phase`. Raises ValueError: one sentence that names the first phase which is not written so.
    """
    phases = []
    for word in text.replace(",", " ").split():
        match = _PHASE.fullmatch(word)
        try:
            phase = Phase(
                tuple(map(int, match["counts"].split("+"))),
                int(match["n_examples"]),
                int(match["steps"]) if match["steps"] else None,
                float(match["margin"] or 0),
                float(match["lr_factor"] or 1),
                "pairs" if match["unit"] else "lines",
            )
            is_valid = phase.n_examples > 0 and phase.steps != 0 and phase.lr_factor > 0
        except (TypeError, ValueError):
            is_valid = False
        if not is_valid:
            raise ValueError(
                f"curriculum={_short(text)} is not understood at {_short(word)}; write phases "
                "LINESxEXAMPLES:STEPS:MARGIN:RATE, such as '1x4:800:0.1:1, 1+2+4x8:600', or with a p after "
                "the number for pairs instead of lines, '2px12:400'."
            )
        phases.append(phase)
    return tuple(phases)


def _decimal(number: float) -> str:
    """All digits of a number and no exponent, "0.00001", as phases are written."""
    return f"{Decimal(str(number)).normalize():f}"


def n_training_pairs(p: int, alpha: float) -> int:
    """How many of the p² input pairs are training inputs."""
    return round(alpha * p * p)


def is_prime(n: int) -> bool:
    """Whether a number is prime, by trial division."""
    return n >= 2 and all(n % d for d in range(2, math.isqrt(n) + 1))


def nearest_prime(n: int) -> int:
    """The nearest prime that p may be; of two, the lower one."""
    n = min(n, LIMITS["p"])
    return next(m for d in range(n + 3) for m in (n - d, n + d) if is_prime(m)) if n > 2 else 2


def nearest_multiple(n: int, unit: int) -> int:
    """The positive multiple of a unit that is nearest to n."""
    return max(unit, unit * ((n + unit // 2) // unit))


def _short(value: Any) -> str:
    """A value in a message: short, and on one line."""
    try:
        text = repr(value)
    except ValueError:  # a number of more digits than Python prints
        return "(a number of over 4000 digits)"
    return text if len(text) <= 80 else f"{text[:80]}…"


def check_type(name: str, value: Any, kind: Any) -> None:
    """Raise ValueError unless a field or parameter is of its type: a Literal, str, bool, int, float, or two floats."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            choices = " or ".join(repr(choice) for choice in get_args(kind))
            raise ValueError(f"{name}={_short(value)} is not allowed; choose {choices}.")
        return
    is_pair = isinstance(value, tuple | list) and len(value) == 2 and all(map(_is_number, value))
    is_valid, allowed = {
        str: (isinstance(value, str) and "\0" not in value, "text"),
        bool: (isinstance(value, bool), "True or False"),
        int: (isinstance(value, int) and not isinstance(value, bool), "a whole number"),
        float: (_is_number(value), "a number, at most 1e308"),
        tuple[float, float]: (is_pair, "two numbers, such as (0.9, 0.98)"),
    }[kind]
    if not is_valid:
        raise ValueError(f"{name}={_short(value)} must be {allowed}.")


def _is_number(value: Any) -> bool:
    """A number that fits into a float."""
    if isinstance(value, float):
        return True
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**308
