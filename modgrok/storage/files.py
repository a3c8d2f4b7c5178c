"""Reading and writing files safely: writes are whole or not at all, reads are bounded, tensors carry a checksum."""

import csv
import errno
import hashlib
import io
import json
import os
import stat
import tempfile
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

PART = ".part-"
"""How the names of files begin that are not whole yet."""

LARGEST_TABLE = 2**26
"""Bytes that a JSON or CSV file of a run may have."""


def read_bytes(path: Path, max_bytes: float = LARGEST_TABLE) -> bytes:
    """The content of an ordinary file.

    Raises:
        FileNotFoundError: the file does not exist.
        ValueError: the path is a folder, a pipe or a device, larger than `max_bytes`, or not readable.
    """
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            raise ValueError(f"{path} is damaged (it is no ordinary file)")
        if state.st_size > max_bytes:
            raise ValueError(f"{path} is damaged (it has {state.st_size} bytes)")
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from None


def make_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing.

    Raises OSError if the folder cannot be made; the message names a link whose target is missing.
    """
    for folder in (path, *path.parents):
        if folder.is_symlink() and not folder.exists():
            target = os.readlink(folder)
            raise FileNotFoundError(errno.ENOENT, f"{folder} is a link to {target}, which does not exist")
    path.mkdir(parents=True, exist_ok=True)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that a crash at any moment leaves either the old content or the new, whole.

    Raises OSError if the disk is full or not writable; the old content stays.
    """
    content = content.encode() if isinstance(content, str) else content
    temporary = None
    try:
        make_folder(path.parent)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=PART, delete=False) as file:
            temporary = file.name
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            os.unlink(temporary)
        is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "make room" if is_full else "see that its folder can be written"
        raise OSError(
            error.errno,
            f"could not write {path} ({error.strerror}); what was saved before is whole: "
            f"{advice} and start the same command again to continue",
        ) from None


def remove_leftovers(folder: Path) -> None:
    """Remove, at any depth, what `write_atomically` left unfinished in a process that was killed."""
    for leftover in folder.rglob(f"{PART}*"):
        leftover.unlink()


def write_csv(path: Path, rows: list[dict[str, float]]) -> None:
    """Write rows with the same keys as a CSV file whose numbers read back exactly; errors as `write_atomically`."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def save_tensors(path: Path, tensors: dict[str, Tensor], run_name: str, notes: dict | None = None) -> None:
    """Write tensors as safetensors, with the run's name, JSON-ready notes and a checksum in the header."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    notes = json.loads(json.dumps(notes or {}))  # in the form in which they are read back
    metadata = {"run": run_name, "sha256": checksum(tensors, notes), "notes": json.dumps(notes)}
    write_atomically(path, safetensors.torch.save(tensors, metadata))


def load_tensors(path: Path, run_name: str, repair: str | None = None) -> dict[str, Tensor]:
    """The tensors that `save_tensors` wrote for a run; arguments and errors as for `load_state`."""
    return load_state(path, run_name, repair)[0]


def load_state(path: Path, run_name: str, repair: str | None = None) -> tuple[dict[str, Tensor], dict]:
    """The tensors and notes that `save_tensors` wrote for the run of this name.

    Raises:
        ValueError: the file is missing, truncated or edited, or belongs to another run; `repair`, an advice, ends
            the message.
    """
    repair = repair or "restore it, or remove it to train the run from the start"
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError("it is no ordinary file")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        notes = json.loads(metadata.get("notes", "{}"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing; {repair}.") from None
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error}); {repair}.") from None
    if metadata.get("run") != run_name:
        owner = str(metadata.get("run", "of some other program"))[:200]
        raise ValueError(f"{path} belongs to the run {owner}; {repair}.")
    if not isinstance(notes, dict) or metadata.get("sha256") != checksum(tensors, notes):
        raise ValueError(f"{path} was changed after it was saved; {repair}.")
    return tensors, notes


def checksum(tensors: dict[str, Tensor], notes: dict) -> str:
    """The sha256, in hexadecimal, of the notes and of the tensors' names, dtypes, shapes and values."""
    digest = hashlib.sha256()
    for name in sorted(notes):
        digest.update(f"{name}={notes[name]}".encode())
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
