"""Files: what is written reads back exactly, and a write is whole or has not been."""

import errno

import pytest
import torch
from tiny import tiny

from modgrok.storage import files
from modgrok.storage.files import load_state, load_tensors, save_tensors, write_atomically

CONFIG = tiny()


def test_tensors_and_notes_read_back_exactly(tmp_path):
    tensors = {
        "matrix": torch.randn(3, 4).T,  # not contiguous
        "scalar": torch.tensor(0.1, dtype=torch.float64),
        "empty": torch.zeros(0, 3),
        "half": torch.randn(5).bfloat16(),
        "whole": torch.arange(4),
    }
    notes = {"step": 3, "seconds": 0.1 + 0.2, "sessions": [1, 2], "é": "ü"}
    save_tensors(tmp_path / "a" / "b.safetensors", tensors, "me", notes)
    read_back, noted = load_state(tmp_path / "a" / "b.safetensors", "me")
    assert noted == notes and read_back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read_back[name].dtype == tensor.dtype and torch.equal(read_back[name], tensor)
    with pytest.raises(ValueError, match="belongs to the run me"):
        load_tensors(tmp_path / "a" / "b.safetensors", "you")


@pytest.mark.parametrize(("was", "is_now"), [(b'"F16"', b'"I16"'), (b"[3,4]", b"[2,6]")])
def test_a_header_edited_to_another_dtype_or_shape_is_seen(was, is_now, tmp_path):
    file = tmp_path / "a.safetensors"
    save_tensors(file, {"matrix": torch.ones(3, 4).half()}, "me")
    content = file.read_bytes()
    assert content.count(was) == 1
    file.write_bytes(content.replace(was, is_now))
    with pytest.raises(ValueError, match="was changed after it was saved"):
        load_tensors(file, "me")


def test_numbers_in_a_table_read_back_exactly(tmp_path, original):
    for name, values in original.metrics.items():
        text = (original.path / "metrics.csv").read_text().splitlines()
        column = text[0].split(",").index(name)
        assert [float(line.split(",")[column]) for line in text[2:]] == values[1:].tolist()


@pytest.mark.parametrize("moment", ["fsync", "replace", "chmod"])
def test_a_write_that_fails_leaves_the_old_file(moment, tmp_path, monkeypatch):
    file = tmp_path / "file"
    write_atomically(file, "old")

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, moment, full)
    with pytest.raises(
        OSError, match=r"could not write .*file \(No space left.*make room and start the same command again"
    ) as error:
        write_atomically(file, "new")
    assert error.value.errno == errno.ENOSPC
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]


def test_an_impossible_place_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"could not write .*file/run/config\.json.* its folder can be written"):
        write_atomically(tmp_path / "file" / "run" / "config.json", "x")
