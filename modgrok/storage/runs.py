"""A run on disk: config, metrics, weights, provenance; checked when read. ::

    root/NAME/config.json                the fields of its Config
              metrics.csv                a row for each evaluation
              scores.safetensors         correct answers by kind of query and shot, divergences, at each evaluation
              checkpoints/step-*.safetensors   weights along the way
              resume.safetensors         everything needed to go on; gone once the run is finished
              manifest.json              digests of all files of a finished run
              provenance.json            versions, device, time; written last, so its presence means finished

A run folder may come from anywhere: nothing in it is executed, its files are bounded in size and type, and its texts
go through `escaped` where they become Markdown or HTML.
"""

import csv
import hashlib
import html
import json
import math
import re
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

import numpy as np
from torch import Tensor

from modgrok.config import SETS, Config
from modgrok.model import Transformer
from modgrok.storage import provenance
from modgrok.storage.files import LARGEST_TABLE, load_tensors, read_bytes, write_atomically

TABLES = ("config.json", "metrics.csv", "scores.safetensors")
"""The files that every finished run has, besides its provenance and manifest."""

COLUMNS = ["step", "lr", "train_loss"]
COLUMNS += [f"{name}_{quantity}" for name in SETS for quantity in ("loss", "acc", "novel")]
"""The columns of metrics.csv, in order."""

OUTCOME_HEAD = f"{'minutes':>8} " + " ".join(f"{name:>10}" for name in SETS)
"""The head of a table whose rows are the `outcome` of runs."""

read_folders: set[Path] = set()
"""Absolute paths of the run folders that this process opened; one with a part "**", such as `ROOT/**/NAME`, is a
pattern that it searched. The book's build asks for them, to know when a chapter is out of date."""

LARGEST_CONFIG = 50_000
"""Bytes that a config.json may have."""


class Run:
    """A run folder, finished or not.

    Attributes:
        path: the folder.
        config: its Config.

    Raises:
        ValueError: the config file is missing or unreadable, or the folder is not named after it.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        file = self.path / "config.json"
        try:
            self.config = Config.from_dict(json.loads(read_bytes(file, LARGEST_CONFIG)))
        except FileNotFoundError:
            raise ValueError(f"{self.path} is not a run: it holds no config.json.") from None
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            cause = str(error).rstrip(".")
            raise ValueError(f"{file} is damaged or from another version ({cause}); restore it.") from None
        if self.config.name != self.path.name:
            raise ValueError(
                f"{file} was edited or belongs elsewhere: it describes the run {self.config.name}."
            )
        note_read(self.path)

    @property
    def name(self) -> str:
        """The name of the folder, which is that of the config: readable, with a digest of what sets the result."""
        return self.path.name

    @property
    def finished(self) -> bool:
        """Whether the training came to its end; its provenance is written last."""
        return (self.path / "provenance.json").is_file()

    @cached_property
    def manifest(self) -> dict[str, dict]:
        """File → its digest, under the key "sha256", of a finished run.

        Raises ValueError if the manifest is missing or damaged.
        """
        file = self.path / "manifest.json"
        try:
            manifest = json.loads(read_bytes(file))
            if all(isinstance(entry["sha256"], str) for entry in manifest.values()):
                return manifest
        except FileNotFoundError:
            raise ValueError(f"{file} is missing; {self.repair}.") from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            pass
        raise ValueError(f"{file} is damaged; {self.repair}.")

    @property
    def repair(self) -> str:
        """The advice for a file of this run that is missing or damaged."""
        if self.finished:
            return f"restore it, or remove the folder {self.path} and train the run again from the start"
        return f"restore it, or remove {self.path / 'resume.safetensors'} to train from the start"

    def read(self, name: str) -> bytes:
        """The content of one of the run's files, compared with its digest if the run is finished.

        Raises ValueError if the file is missing, no ordinary file, or changed since the run was finished.
        """
        file = self.path / name
        try:
            content = read_bytes(file, math.inf if name.endswith(".safetensors") else LARGEST_TABLE)
        except FileNotFoundError:
            raise ValueError(f"{file} is missing; {self.repair}.") from None
        except ValueError as error:
            raise ValueError(f"{error}; {self.repair}.") from None
        digest = self.manifest.get(name, {}).get("sha256") if self.finished else None
        if self.finished and digest != hashlib.sha256(content).hexdigest():
            if digest == hashlib.sha256(content.replace(b"\r\n", b"\n")).hexdigest():
                raise ValueError(
                    f"{file} has the line ends of Windows, as git writes them under core.autocrlf=true; clone again "
                    "with `git clone -c core.autocrlf=false`."
                )
            raise ValueError(f"{file} is not what the run was finished with; {self.repair}.")
        return content

    def read_tensors(self, name: str) -> dict[str, Tensor]:
        """The tensors in one of the run's files, checked as by `read`."""
        self.read(name)
        return load_tensors(self.path / name, self.name, self.repair)

    def finish(self, record: bytes) -> None:
        """Write the manifest of all files, and then the record as provenance.json, which makes the run finished."""
        names = [*TABLES, *map(checkpoint_name, self.steps)]
        digests = {name: hashlib.sha256((self.path / name).read_bytes()) for name in names}
        digests["provenance.json"] = hashlib.sha256(record)
        manifest = {name: {"sha256": digest.hexdigest()} for name, digest in digests.items()}
        write_atomically(self.path / "manifest.json", json.dumps(manifest, indent=1))
        write_atomically(self.path / "provenance.json", record)

    @property
    def provenance(self) -> dict:
        """Versions, commit, device, processes and wall time (seconds); empty until the run is finished.

        Raises ValueError if the file is damaged, or a value has a wrong type or length.
        """
        if not self.finished:
            return {}
        content = self.read("provenance.json")
        try:
            return provenance.parse(content)
        except ValueError as error:
            file = self.path / "provenance.json"
            raise ValueError(f"{file} is damaged{error}; {self.repair}.") from None

    @cached_property
    def metrics(self) -> dict[str, np.ndarray]:
        """Name → values at each evaluation: step, lr, train_loss, and for each of the four sets {set}_loss,
        {set}_acc and {set}_novel.

        Losses are cross-entropies in nats over all z. {set}_acc is the accuracy of the last z, {set}_novel that of the
        last z where the query repeats no example; nan where there is no such query. Raises ValueError if the table is
        missing or damaged.
        """
        text, file = self.read("metrics.csv"), self.path / "metrics.csv"
        try:
            header, *rows = csv.reader(text.decode().splitlines())
            columns = dict(zip(header, np.array(rows, dtype=float).T, strict=True))
            if header != COLUMNS:
                raise ValueError("its columns are not those of an evaluation")
            return columns | {"step": columns["step"].astype(int)}
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{file} is damaged ({error}); {self.repair}.") from None

    @cached_property
    def scores(self) -> dict[str, np.ndarray]:
        """The arrays of `scores.safetensors`; see `correct`, `queries` and `divergence`, which raise as `metrics`."""
        tensors = self.read_tensors("scores.safetensors")
        if tensors.keys() != {
            f"{name}.{table}" for name in SETS for table in ("right", "asked", "divergence")
        }:
            raise ValueError(f"{self.path / 'scores.safetensors'} is damaged; {self.repair}.")
        return {name: tensor.numpy() for name, tensor in tensors.items()}

    @property
    def correct(self) -> dict[str, np.ndarray]:
        """Set → numbers of correct answers, (evaluations, kinds, n_examples), by `evaluate.KINDS` and shots."""
        return {name: self.scores[f"{name}.right"] for name in SETS}

    @property
    def queries(self) -> dict[str, np.ndarray]:
        """Set → numbers of queries, (kinds, n_examples), the same at every evaluation."""
        return {name: self.scores[f"{name}.asked"] for name in SETS}

    @property
    def divergence(self) -> dict[str, np.ndarray]:
        """Set → mean KL(reference ‖ model) in nats, (evaluations, references, n_examples), by `REFERENCES`."""
        return {name: self.scores[f"{name}.divergence"] for name in SETS}

    @property
    def accuracy_by_shot(self) -> dict[str, np.ndarray]:
        """Set → accuracy by shot, (evaluations, n_examples), rows as in `metrics`."""
        with np.errstate(invalid="ignore"):  # a set without tasks has no queries
            return {name: self.correct[name].sum(1) / self.queries[name].sum(0) for name in SETS}

    @property
    def outcome(self) -> str:
        """Minutes of training, "…" until the run is finished, and last-shot accuracy on each set, in columns.

        Raises ValueError if a file of the run is damaged.
        """
        minutes = f"{self.provenance['seconds'] / 60:.1f}" if self.finished else "…"
        return f"{minutes:>8} " + " ".join(f"{self.metrics[f'{name}_acc'][-1]:10.2f}" for name in SETS)

    def summary(self) -> dict[str, object]:
        """A row about the run: its name, whether it is finished, minutes, device, last metrics, and config.

        The metrics are None before the first evaluation. Minutes and device are None until the run is finished. Raises
        ValueError if a file of the run is damaged.
        """
        columns = [column for column in COLUMNS if column != "lr"]  # the config's lr has that name
        is_evaluated = self.finished or (self.path / "metrics.csv").exists()
        metrics = {column: self.metrics[column][-1].item() if is_evaluated else None for column in columns}
        record = self.provenance
        minutes = record["seconds"] / 60 if record else None
        row = {"name": self.name, "finished": self.finished, "minutes": minutes}
        return row | {"device": record.get("device")} | metrics | self.config.to_dict()

    @property
    def steps(self) -> list[int]:
        """The steps whose weights are kept: those in the manifest, or on disk while the run is not finished."""
        on_disk = (f"checkpoints/{file.name}" for file in self.path.glob("checkpoints/*"))
        return checkpoint_steps(self.manifest if self.finished else on_disk)

    def model(self, step: int | None = None) -> Transformer:
        """The model at a checkpoint, by default the last one that the run keeps, in float32 on the CPU.

        Raises ValueError if the run keeps no weights of that step, or the file is missing, damaged or of another run.
        """
        steps = self.steps
        if not steps:
            raise ValueError(
                f"{self.name} keeps no weights, as it was shipped; train it under another root to have them."
            )
        if step is None:
            step = steps[-1]
        elif step not in steps:
            raise ValueError(f"step={step} is not a checkpoint of {self.name}; choose one of {steps}.")
        tensors = self.read_tensors(checkpoint_name(step))
        model = Transformer(self.config)
        try:
            model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
        except RuntimeError:  # its message lists all names and shapes
            file = self.checkpoint_file(step)
            raise ValueError(f"{file} holds no weights of this model; {self.repair}.") from None
        return model.eval()

    def checkpoint_file(self, step: int) -> Path:
        """Where the weights of a step lie."""
        return self.path / checkpoint_name(step)


def note_read(folder: Path) -> None:
    """Add a run's folder, or a pattern, to `read_folders`."""
    read_folders.add(folder.absolute())


def checkpoint_name(step: int) -> str:
    """The name, relative to the run's folder, of the file with the weights of a step."""
    return f"checkpoints/step-{step:07d}.safetensors"


def checkpoint_steps(names: Iterable[str]) -> list[int]:
    """The steps, ascending, of the files among some that are named as checkpoints are."""
    matches = (re.fullmatch(r"checkpoints/step-([0-9]{7,12})\.safetensors", name) for name in names)
    return sorted(int(match[1]) for match in matches if match)


def escaped(text: object) -> str:
    """A text from a run folder, escaped so that Markdown and HTML show it literally."""
    return html.escape(re.sub(r"([\\`*_{}\[\]()#+!|~$])", r"\\\1", " ".join(str(text).split())))
