"""Weights on disk: all usual ways of saving are understood, the rest gets its story; writing is whole or not at all."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from unitscope.errors import BadInput, Failure
from unitscope.preprocessing import Preprocessing
from unitscope.weights import Weights, bare_state, fit_weights, read_weights, write_weights


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


@pytest.fixture
def state():
    return {name: torch.rand_like(t) if t.is_floating_point() else t for name, t in small().state_dict().items()}


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


WRAPPINGS = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}},
    "model": lambda state: {"model": state, "step": torch.tensor(5)},
    "module.": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "_orig_mod.": lambda state: {f"_orig_mod.{name}": tensor for name, tensor in state.items()},
    "both": lambda state: {"state_dict": {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}},
    "averaged": lambda state: {"n_averaged": torch.tensor(7)} | {f"module.{n}": t for n, t in state.items()},
    "part compiled": lambda state: {n.replace("0.", "0._orig_mod.", 1): t for n, t in state.items()},
    "parallel twice": lambda state: {f"module.module.{name}": tensor for name, tensor in state.items()},
    "wrapped twice": lambda state: {"model": {"state_dict": state, "rank": 0}},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("how", ["zip", "legacy"])
def test_pickled_weights_are_understood_however_they_are_wrapped(tmp_path, state, wrapping, how):
    path = tmp_path / "w.pth"
    torch.save(WRAPPINGS[wrapping](state), path, _use_new_zipfile_serialization=how == "zip")
    found = read_weights(path)
    assert same(found.state, state)
    assert found.preprocessing == Preprocessing()


@pytest.mark.parametrize("wrapping", ["bare", "module.", "_orig_mod."])
def test_safetensors_are_understood(tmp_path, state, wrapping):
    safetensors.torch.save_file(WRAPPINGS[wrapping](state), tmp_path / "w.safetensors")
    assert same(read_weights(tmp_path / "w.safetensors").state, state)


def test_the_form_is_seen_in_the_bytes_and_not_in_the_suffix(tmp_path, state):
    safetensors.torch.save_file(state, tmp_path / "w.pt")
    torch.save(state, tmp_path / "w.safetensors")
    assert same(read_weights(tmp_path / "w.pt").state, state)
    assert same(read_weights(str(tmp_path / "w.safetensors")).state, state)


def test_a_network_whose_own_names_begin_with_module_keeps_them(state):
    class Holder(nn.Module):
        def __init__(self):
            super().__init__()
            self.module = small()

    holder = Holder()
    fit_weights(holder, Weights(bare_state({f"module.{n}": t for n, t in state.items()}), Path("w.pt")))
    assert same(holder.module.state_dict(), state)


def test_half_precision_becomes_the_precision_of_the_network(state):
    network = small()
    fit_weights(network, Weights({n: t.half() if t.is_floating_point() else t for n, t in state.items()}, Path("w.pt")))
    assert network[0].weight.dtype == torch.float32
    assert torch.equal(network[0].weight, state["0.weight"].half().float())


def test_counters_that_evaluation_never_reads_may_be_missing(state):
    del state["1.num_batches_tracked"]
    network = small()
    fit_weights(network, Weights(state, Path("w.pt")))
    assert torch.equal(network[3].weight, state["3.weight"])


def test_a_mismatch_names_the_first_few_and_how_many_and_copies_nothing(state):
    network = small()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    del state["3.weight"], state["3.bias"]
    state["0.weight"] = torch.zeros(4, 1, 3, 3)
    state |= {f"extra.{number}": torch.zeros(1) for number in range(5)}
    story = (
        r"old.pt does not fit squint \(9 tensors expected, 12 came\): 2 missing: 3.weight, 3.bias; "
        r"5 unexpected: extra.0, extra.1, extra.2 and 2 more; "
        r"1 of another shape: 0.weight 4 x 1 x 3 x 3 instead of 4 x 3 x 3 x 3\. Look elsewhere\."
    )
    with pytest.raises(BadInput, match=story):
        fit_weights(network, Weights(state, Path("a/old.pt")), name="squint", hint="Look elsewhere.")
    assert same(network.state_dict(), before)


def test_a_single_number_has_a_shape_one_can_read(state):
    state["1.num_batches_tracked"] = torch.zeros(2)
    with pytest.raises(BadInput, match=r"1.num_batches_tracked 2 instead of \(one number\)"):
        fit_weights(small(), Weights(state, Path("w.pt")))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_of_a_training_that_went_astray(state, value):
    state["3.weight"][0, 0] = value
    with pytest.raises(BadInput, match=r"w.pt holds NaN or infinity in 1 of 9 tensors: 3.weight\."):
        fit_weights(small(), Weights(state, Path("w.pt")))


UNREADABLE = {
    "empty": (b"", "it is empty"),
    "text": (b"epoch,loss\n1,0.5\n" * 50, "it begins with b'epoch,lo'"),
    "web page": (b"\n<!DOCTYPE html><html>404</html>", "it is a web page, perhaps of a download that failed"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n", "the pointer that git-lfs left"),
    "short": (b"PK", "not a weights file, or not a complete one"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(600), "it begins with"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_files_that_are_no_weights(tmp_path, case):
    data, story = UNREADABLE[case]
    (tmp_path / "w.pt").write_bytes(data)
    with pytest.raises(BadInput, match=story):
        read_weights(tmp_path / "w.pt")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_torchscript_archive_is_a_program(tmp_path):
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "w.pt")
    with pytest.raises(
        BadInput, match=r"is a TorchScript archive, a program and not only weights. Save its state_dict"
    ):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("how", ["zip", "legacy", "safetensors"])
@pytest.mark.parametrize("kept", [10, 100, 20_000, 40_000])
def test_files_that_were_cut_off(tmp_path, how, kept):
    path, state = tmp_path / "w", {"a": torch.rand(100, 100), "b": torch.rand(50)}
    if how == "safetensors":
        safetensors.torch.save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=how == "zip")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(BadInput, match=r"is it complete\?|or not a complete one"):
        read_weights(path)


class Mischief:
    """Unpickling it would write a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("how", ["zip", "legacy", "plain pickle"])
def test_a_pickle_that_could_run_code_is_not_opened(tmp_path, how):
    path, trace = tmp_path / "w.pt", tmp_path / "trace"
    if how == "plain pickle":
        path.write_bytes(pickle.dumps({"a": Mischief(trace)}))
    else:
        torch.save({"a": Mischief(trace)}, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(BadInput, match="is a pickle that holds more than weights, and is not opened"):
        read_weights(path)
    assert not trace.exists()


def test_a_whole_module_is_more_than_weights(tmp_path):
    torch.save(small(), tmp_path / "w.pt")
    with pytest.raises(BadInput, match="save its state_dict"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("held", "story"),
    [
        (torch.zeros(3), "holds a Tensor, not weights: expected names with tensors"),
        ([torch.zeros(3)], "holds a list, not weights"),
        ({"epoch": 3, "loss": 0.5}, "holds no weights, only 'epoch', 'loss'"),
        ({}, "holds no weights, only nothing"),
    ],
)
def test_pickles_of_something_else(tmp_path, held, story):
    torch.save(held, tmp_path / "w.pt")
    with pytest.raises(BadInput, match=story):
        read_weights(tmp_path / "w.pt")


def test_a_file_that_is_not_there_has_neighbors(tmp_path):
    (tmp_path / "resnet34_w32.safetensors").touch()
    with pytest.raises(
        BadInput, match=r"no weights file .*resnet34_w23.safetensors. Close: 'resnet34_w32.safetensors'\."
    ):
        read_weights(tmp_path / "resnet34_w23.safetensors")
    with pytest.raises(BadInput, match=r"no weights file .*w.pt\. There is no folder .*nowhere either\."):
        read_weights(tmp_path / "nowhere" / "w.pt")
    with pytest.raises(BadInput, match="is a folder; give the weights file inside it"):
        read_weights(tmp_path)


KNOWN = Preprocessing((112, 96), (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), "BGR", ("Shih-Tzu", "trench coat"))


def test_what_was_written_is_read(tmp_path, state):
    path = write_weights(tmp_path / "w.safetensors", state, KNOWN)
    found = read_weights(path)
    assert same(found.state, state)
    assert found.preprocessing == KNOWN
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"]


def test_half_precision_is_for_kernels_and_matrices(tmp_path, state):
    state["3.weight"][0, 0] = 1e6
    found = read_weights(write_weights(tmp_path / "w.safetensors", state, KNOWN, half=True)).state
    kinds = {name: tensor.dtype for name, tensor in found.items()}
    assert kinds["0.weight"] == torch.float16
    assert kinds["3.weight"] == torch.float32  # one of its numbers does not fit
    assert {kinds[n] for n in ("0.bias", "1.running_var", "1.weight")} == {torch.float32}
    assert kinds["1.num_batches_tracked"] == torch.int64
    assert torch.equal(found["1.running_var"], state["1.running_var"])


def test_tied_and_strided_weights_can_be_written(tmp_path):
    tied = torch.rand(4, 6)
    state = {"a": tied, "b": tied, "c": tied.T, "d": tied[:, ::2]}
    found = read_weights(write_weights(tmp_path / "w.safetensors", state, Preprocessing())).state
    assert same(found, state)


def test_a_failed_writing_leaves_the_old_file_and_nothing_else(tmp_path, state, monkeypatch):
    path = write_weights(tmp_path / "w.safetensors", state, KNOWN)
    before = path.read_bytes()

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(Failure, match=r"could not be written to .*w.safetensors: .*No space left on device"):
        write_weights(path, {"a": torch.zeros(3)}, KNOWN)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"]


def test_a_folder_that_is_not_there_cannot_be_written_to(tmp_path, state):
    with pytest.raises(Failure, match=r"could not be written to .*nowhere"):
        write_weights(tmp_path / "nowhere" / "w.safetensors", state, KNOWN)


def test_metadata_that_make_no_sense_name_the_file(tmp_path, state):
    safetensors.torch.save_file(state, tmp_path / "w.safetensors", metadata={"unitscope.std": "[0, 1, 1]"})
    with pytest.raises(BadInput, match=r"w.safetensors: std is \(0.0, 1.0, 1.0\); expected numbers above 0"):
        read_weights(tmp_path / "w.safetensors")


# --- files that were made to harm, or of other uses ------------------------------------------------


@pytest.mark.parametrize("key", ["size", "mean", "std", "order", "classes"])
@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"a":' * 100_000, "1" * 5_000, "NaN", '{"a": 1}', "[[1]]", "-5", "true", "[1, 1" + "0" * 400 + "]",
     "[1e999, 1, 1]", '["\\ud800"]', "[100000000000, true]"],
    ids=["deep", "deep objects", "5,000 digits", "NaN", "an object", "nested", "below 0", "truth", "400 digits",
         "infinity", "half a character", "large"],
)  # fmt: skip
def test_metadata_of_any_kind_are_understood_or_told_in_short(tmp_path, key, text):
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(2)}, path, metadata={f"unitscope.{key}": text})
    with pytest.raises(BadInput, match=r"w\.safetensors: ") as caught:
        read_weights(path)
    assert len(str(caught.value)) < 250


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("odd", "story"),
    [
        (lambda: torch.empty(2, 2, device="meta"), "on the meta device, without numbers"),
        (lambda: torch.eye(2).to_sparse(), "sparse"),
        (lambda: torch.eye(2).to_sparse_csr(), "sparse"),
        (lambda: torch.quantize_per_tensor(torch.ones(2, 2), 0.1, 0, torch.qint8), "quantized"),
        (lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]), "nested"),
    ],
)
def test_tensors_that_are_not_plain_numbers_are_told(tmp_path, odd, story):
    torch.save({"weight": odd(), "bias": torch.zeros(2)}, tmp_path / "w.pt")
    with pytest.raises(BadInput, match=rf"w\.pt holds 1 of 2 tensors that are not plain numbers: weight \({story}\)"):
        read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize("kind", [torch.int8, torch.bool, torch.complex64])
def test_numbers_of_another_kind_do_not_become_weights(kind):
    state = {"weight": torch.ones(2, 2, dtype=kind), "bias": torch.ones(2)}
    story = f"1 of another kind: weight {kind} instead of torch.float32"
    with pytest.raises(BadInput, match=story.replace(".", r"\.")):
        fit_weights(nn.Linear(2, 2), Weights(state, Path("w.pt")))


def test_numbers_of_eight_bits_become_weights_and_are_looked_at():
    state = {"weight": torch.ones(2, 2).to(torch.float8_e4m3fn), "bias": torch.ones(2).double()}
    network = nn.Linear(2, 2)
    fit_weights(network, Weights(state, Path("w.pt")))
    assert (network.weight == 1).all()
    state["weight"] = torch.full((2, 2), torch.nan).to(torch.float8_e4m3fn)
    with pytest.raises(BadInput, match=r"NaN or infinity in 1 of 2 tensors: weight"):
        fit_weights(network, Weights(state, Path("w.pt")))


def test_a_wrapper_within_itself_ends(tmp_path):
    loop: dict = {}
    loop["state_dict"] = loop
    torch.save(loop, tmp_path / "w.pt")
    with pytest.raises(BadInput, match="within more than 8 wrappers, or a wrapper within itself"):
        read_weights(tmp_path / "w.pt")
