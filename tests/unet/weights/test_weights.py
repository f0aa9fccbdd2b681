"""Weights files: what is written can be read, and other files are refused."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
import stat
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.base.errors import OvertileError, WeightsError
from unet import UNet, UNetConfig, UNetPredictor, load_weights, read_weights_info, save_weights
from unet.weights import location
from unet.weights.file import copy_with_voxel_size
from unet.weights.location import bundled_names

SMALL = UNetConfig(base_channels=2, levels=2)


def refusal(path: object, reason: str) -> None:
    """Assert that every reader refuses ``path`` in one line with this reason."""
    for read in (read_weights_info, load_weights, UNetPredictor):
        with pytest.raises(WeightsError, match=reason) as caught:
            read(path)  # type: ignore[operator]
        assert "\n" not in str(caught.value)


def foreign(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None) -> Path:
    save_file(tensors, path, metadata=metadata)
    return path


def metadata_of(path: Path) -> dict[str, str]:
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    metadata: dict[str, str] = header["__metadata__"]
    return metadata


def test_saved_weights_load_bit_for_bit(
    config: UNetConfig, network: Callable[..., UNet], tmp_path: Path
) -> None:
    model = network(config)
    save_weights(model, tmp_path / "w.safetensors")
    again, info = load_weights(tmp_path / "w.safetensors")
    assert info.config == again.config == config
    assert info.parameters == config.parameters
    assert not again.training
    assert all(parameter.requires_grad for parameter in again.parameters())
    state = again.state_dict()
    assert list(state) == list(model.state_dict())
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())


def test_half_precision_halves_the_file_and_rounds_once(
    network: Callable[..., UNet], tmp_path: Path
) -> None:
    model = network(UNetConfig(base_channels=16, levels=3, norm="batch"))
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    save_weights(model, full)
    save_weights(model, half, dtype="float16")
    assert half.stat().st_size < 0.55 * full.stat().st_size
    again, info = load_weights(half)
    assert (read_weights_info(full).dtype, info.dtype) == ("float32", "float16")
    assert all(parameter.dtype == torch.float32 for parameter in again.parameters())
    for name, tensor in model.state_dict().items():
        wanted = tensor.half().float() if tensor.is_floating_point() else tensor
        assert torch.equal(again.state_dict()[name], wanted)


def test_metadata_is_read_as_written(
    weights_file: Callable[..., Path],
) -> None:
    path = weights_file(
        SMALL,
        normalisation={"kind": "range", "low": 0, "high": 255},
        class_names=["background", "Zelle ß"],
        provenance={"data": ["a.zarr"], "steps": 7},
    )
    info = read_weights_info(path)
    assert info.normalisation == {"kind": "range", "low": 0, "high": 255}
    assert info.class_names == ("background", "Zelle ß")
    assert info.provenance == {"data": ["a.zarr"], "steps": 7}
    assert info == load_weights(path)[1]
    assert hash(info) == hash(read_weights_info(path))


def test_class_names_default_to_numbers(weights_file: Callable[..., Path]) -> None:
    info = read_weights_info(weights_file(UNetConfig(base_channels=1, levels=2, classes=3)))
    assert info.class_names == ("background", "class 1", "class 2")
    assert info.normalisation is None
    assert info.provenance == {}


def test_the_digest_is_the_file_s_sha256(weights_file: Callable[..., Path]) -> None:
    path = weights_file(SMALL)
    info = read_weights_info(path)
    assert info.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert info.size_bytes == path.stat().st_size


def test_the_same_weights_give_the_same_file(weights_file: Callable[..., Path]) -> None:
    digests = {
        read_weights_info(weights_file(SMALL, name=f"{n}.safetensors")).digest for n in range(6)
    }
    assert len(digests) == 1


def test_any_safetensors_reader_reads_the_file(
    weights_file: Callable[..., Path], network: Callable[..., UNet]
) -> None:
    tensors = load_file(weights_file(SMALL))
    wanted = network(SMALL).state_dict()
    assert all(torch.equal(tensors[name], wanted[name]) for name in wanted)


def test_weights_are_read_from_any_file_system(weights_file: Callable[..., Path]) -> None:
    path = weights_file(SMALL)
    with fsspec.open("memory://somewhere/w.safetensors", "wb") as file:
        file.write(path.read_bytes())
    model, info = load_weights("memory://somewhere/w.safetensors")
    assert info == read_weights_info(path)
    assert model.config == SMALL


def test_a_bundled_name_is_a_file_of_the_package_unless_a_local_file_has_this_name(
    weights_file: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled = weights_file(SMALL, name="ours.safetensors")
    monkeypatch.setattr(location, "BUNDLED", tmp_path)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    assert read_weights_info("ours") == read_weights_info(bundled)
    assert UNetPredictor("ours").weights_uri == "ours"  # its path differs between machines
    refusal("hours", r"no weights found at .*bundled: ours")
    local = weights_file(SMALL, name="work/ours", provenance={"mine": True})
    assert read_weights_info("ours") == read_weights_info(local)
    assert UNetPredictor("ours").weights_uri == str(local)


def test_a_failed_write_leaves_the_old_file(
    weights_file: Callable[..., Path],
    network: Callable[..., UNet],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = weights_file(SMALL)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(WeightsError, match="No space left"):
        save_weights(network(SMALL), path, provenance={"new": True})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_the_file_has_the_usual_permissions(
    weights_file: Callable[..., Path], tmp_path: Path
) -> None:
    usual = tmp_path / "usual"
    usual.touch()
    assert stat.S_IMODE(weights_file(SMALL).stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)


def test_a_pickle_is_refused_and_never_loaded(tmp_path: Path, network: Callable[..., UNet]) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (Path(tmp_path / "went off"),))  # type: ignore[return-value]

    (tmp_path / "bare.pkl").write_bytes(pickle.dumps(Bomb()))
    torch.save({"state": network(SMALL).state_dict(), "bomb": Bomb()}, tmp_path / "model.pth")
    refusal(tmp_path / "bare.pkl", "a pickle .* never opened")
    refusal(tmp_path / "model.pth", "a pickle .* never opened")
    assert not (tmp_path / "went off").exists()


def test_a_file_truncated_anywhere_is_refused(weights_file: Callable[..., Path]) -> None:
    path = weights_file(SMALL)
    content = path.read_bytes()
    for length in (0, 5, 8, 9, 300, len(content) - 1):
        path.write_bytes(content[:length])
        refusal(path, r"truncated: .*(copy|download)")


def test_foreign_files_are_refused(weights_file: Callable[..., Path], tmp_path: Path) -> None:
    refusal(tmp_path / "absent.safetensors", "no weights found at")
    refusal(tmp_path, "are a folder: pass one weights file")
    (tmp_path / "rdf.yaml").touch()
    refusal(tmp_path, "are a folder, a bioimage.io model package: .*docs/your-own-model.md")
    refusal("nowhere://w.safetensors", "cannot read weights")
    (tmp_path / "text").write_text("these are words, not weights")
    refusal(tmp_path / "text", "not a safetensors file")
    (tmp_path / "json").write_bytes((5).to_bytes(8, "little") + b"{'a'}")
    refusal(tmp_path / "json", "header cannot be parsed")
    refusal(foreign(tmp_path / "f", {"a": torch.zeros(2)}, None), "without overtile's metadata")


def zipped(*names: str) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name in names:
            archive.writestr(name, "content")
    return held.getvalue()


OTHERS = {
    "onnx": (b"\x08\x07\x12\x07pytorch", "an ONNX model"),
    "bioimageio.zip": (zipped("rdf.yaml", "weights.pt"), "a bioimage.io model package"),
    "saved.zip": (zipped("m/saved_model.pb", "m/variables/v.index"), "a TensorFlow model"),
    "saved_model.pb": (b"\x08\x01\x12\xc0\x02\n\x10" + bytes(40), "a TensorFlow model"),
    "model.keras": (zipped("config.json", "model.weights.h5"), "a Keras model"),
    "nnunet.zip": (zipped("m/plans.json", "m/fold_0/checkpoint_final.pth"), "an nnU-Net model"),
    "keras.h5": (b"\x89HDF\r\n\x1a\n" + bytes(40), "an HDF5 file"),
    "lite.tflite": (b"\x1c\x00\x00\x00TFL3" + bytes(40), "a TensorFlow Lite model"),
    "graph.pb": (b"\n\x1a\n\x05input\x12\x0bPlaceholder", "a TensorFlow graph"),
    "arrays.npz": (zipped("a.npy", "b.npy"), "NumPy arrays"),
    "array.npy": (b"\x93NUMPY\x01\x00v\x00{'descr'", "a NumPy array"),
    "weights.gguf": (b"GGUF" + bytes(40), "a GGUF model"),
    "openvino.xml": (b'<?xml version="1.0"?><net name="unet">', "an XML text"),
    "rdf.yaml": (
        b"format_version: 0.5.3\ntype: model\nname: x\n",
        "the description of a bioimage.io model",
    ),
    "config.json": (b'{"architectures": ["UNet"]}' + b" " * 20, "a JSON text"),
    "nested.json": (b'{"unet": {"levels": 2}}' + b" " * 20, "a JSON text"),
}
OTHER_FILES = {
    "w.tar": (b"w.safetensors".ljust(257, b"\0") + b"ustar\x0000" + bytes(200), "a tar archive"),
    "w.gz": (b"\x1f\x8b\x08" + bytes(40), "a gzip archive: unpack it"),
    "w.zip": (zipped("w.safetensors"), "a zip archive: unpack it"),
    "half.zip": (zipped("w.safetensors")[:60], "damaged zip archive: copy or download it again"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "run git lfs pull"),
    "page": (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_a_model_of_another_format_is_named_with_the_page_that_helps(
    tmp_path: Path, name: str
) -> None:
    content, kind = OTHERS[name]
    (tmp_path / name).write_bytes(content)
    refusal(tmp_path / name, f"are {kind}.*: .*docs/your-own-model.md")


@pytest.mark.parametrize("name", OTHER_FILES)
def test_a_file_that_is_no_model_is_named_with_the_remedy(tmp_path: Path, name: str) -> None:
    content, text = OTHER_FILES[name]
    (tmp_path / name).write_bytes(content)
    refusal(tmp_path / name, text)


def test_the_files_that_torch_writes_are_told_apart(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(tmp_path / "script.pt")
    torch.export.save(torch.export.export(module, (torch.zeros(1, 1, 8, 8),)), tmp_path / "e.pt2")
    torch.save(module.state_dict(), tmp_path / "state.pth")
    torch.save(module, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    refusal(tmp_path / "script.pt", r"a TorchScript model \(torch.jit.save\): .*your-own-model.md")
    refusal(tmp_path / "e.pt2", r"a PyTorch program \(torch.export\): .*your-own-model.md")
    for name in ("state.pth", "old.pth"):
        refusal(tmp_path / name, "a pickle .*unet.save_weights; .*docs/your-own-model.md")


def test_a_newer_format_is_refused(weights_file: Callable[..., Path], tmp_path: Path) -> None:
    path = weights_file(SMALL)
    newer = {**metadata_of(path), "overtile_weights": "2"}
    refusal(foreign(tmp_path / "newer", load_file(path), newer), "format 2: expected 1")


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("config", "{"),
        ("config", "[]"),
        ("config", '{"dims": 7}'),
        ("config", '{"depth": 7}'),
        ("class_names", "5"),
        ("class_names", '["background"]'),
        ("normalisation", "[]"),
        ("provenance", "null"),
    ],
)
def test_broken_metadata_is_refused(
    weights_file: Callable[..., Path], tmp_path: Path, entry: str, text: str
) -> None:
    path = weights_file(SMALL)
    broken = {**metadata_of(path), entry: text}
    refusal(foreign(tmp_path / "broken", load_file(path), broken), "metadata|class names")


def test_tensors_that_do_not_match_the_config_are_refused(
    weights_file: Callable[..., Path], tmp_path: Path
) -> None:
    path = weights_file(SMALL)
    tensors, metadata = load_file(path), metadata_of(path)
    for name, content, reason in [
        ("less", {n: t for n, t in tensors.items() if n != "head.bias"}, "1 missing .*head.bias"),
        ("more", {**tensors, "tail.bias": torch.zeros(2)}, "1 unexpected .*tail.bias"),
        (
            "other",
            {**tensors, "head.bias": torch.zeros(3)},
            re.escape("head.bias (3,), expected (2,)"),
        ),
        ("double", {n: t.double() for n, t in tensors.items()}, "stored as F64"),
    ]:
        refusal(foreign(tmp_path / name, content, metadata), reason)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(
    weights_file: Callable[..., Path], network: Callable[..., UNet], tmp_path: Path, value: float
) -> None:
    path = weights_file(SMALL)
    tensors = load_file(path)
    tensors["head.bias"][1] = value
    with pytest.raises(WeightsError, match=r"head.bias has NaN or infinite"):
        load_weights(foreign(tmp_path / "bad", tensors, metadata_of(path)))
    model = network(SMALL)
    model.head.bias.data[0] = value
    with pytest.raises(WeightsError, match=r"head.bias .* not finite"):
        save_weights(model, path)


def test_values_too_large_for_half_precision_are_refused(
    network: Callable[..., UNet], tmp_path: Path
) -> None:
    model = network(SMALL)
    model.head.bias.data[0] = 1e6
    with pytest.raises(WeightsError, match="not finite in float16"):
        save_weights(model, tmp_path / "w.safetensors", dtype="float16")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"class_names": ["only one"]}, "expected 2"),
        ({"class_names": "ab"}, "expected 2"),
        ({"provenance": {"a": object()}}, "cannot write provenance as JSON"),
        ({"normalisation": {"low": float("nan")}}, "cannot write normalisation as JSON"),
        ({"dtype": "bfloat16"}, "float32 or float16"),
    ],
)
def test_records_that_cannot_be_written_are_refused(
    weights_file: Callable[..., Path], options: dict[str, object], reason: str
) -> None:
    with pytest.raises(OvertileError, match=reason):
        weights_file(SMALL, **options)


@pytest.mark.parametrize("name", bundled_names())
def test_bundled_weights_are_small_and_state_their_origin(name):
    model, info = load_weights(name)
    assert info.size_bytes <= 8e6
    first = info.class_names[0]
    assert first in ("cell interior", "inside", "background", "affinity -1,0,0")
    assert "made_by" in info.provenance
    shape = info.config.input_shape((8,) * info.config.dims)
    assert torch.isfinite(model(torch.zeros(1, 1, *shape))).all()
    if name.startswith("fib25"):
        assert "FlyEM" in info.provenance["recipe"]["attribution"]


def test_facts_of_the_training_survive_and_old_files_without_them_stay_valid(
    network: Callable[..., UNet], tmp_path: Path
) -> None:
    percentiles = {"1": [0.1], "50": [0.5], "99": [0.9]}
    path = tmp_path / "w.safetensors"
    save_weights(network(SMALL), path, voxel_size_um=[0.5, 0.25], input_percentiles=percentiles)
    info = read_weights_info(path)
    assert info.voxel_size_um == (0.5, 0.25)
    assert info.input_percentiles == {"1": (0.1,), "50": (0.5,), "99": (0.9,)}
    assert UNetPredictor(path).voxel_size_um == (None, 0.5, 0.25)
    save_weights(network(SMALL), path)
    assert read_weights_info(path).voxel_size_um is None
    assert UNetPredictor(path).voxel_size_um is UNetPredictor(path).input_percentiles is None
    assert not {"voxel_size_um", "input_percentiles"} & set(metadata_of(path))


@pytest.mark.parametrize("sizes", [[1, 1, 1], [0, 1], [float("inf"), 1], ["1", 1], 4, []])
def test_wrong_voxel_sizes_are_refused_when_written_and_when_read(
    sizes: object, network: Callable[..., UNet], tmp_path: Path
) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(WeightsError, match=r"expected 2 sizes above 0 in µm, y, x"):
        save_weights(network(SMALL), path, voxel_size_um=sizes)  # type: ignore[arg-type]
    assert not path.exists()
    save_weights(network(SMALL), path)
    stated = {**metadata_of(path), "voxel_size_um": json.dumps(sizes)}
    refusal(foreign(path, load_file(path), stated), "voxel size .*expected 2 sizes above 0")


def test_a_copy_with_a_voxel_size_has_the_same_tensors_and_replaces_nothing(
    network: Callable[..., UNet], tmp_path: Path
) -> None:
    old, new = tmp_path / "w.safetensors", tmp_path / "new.safetensors"
    save_weights(network(SMALL), old, class_names=["a", "b"], provenance={"by": "me"})
    copy_with_voxel_size(old, new, [0.5, 0.25])
    before, after = read_weights_info(old), read_weights_info(new)
    assert after.voxel_size_um == (0.5, 0.25)
    assert (after.class_names, after.provenance) == (before.class_names, before.provenance)
    tensors, copied = load_file(old), load_file(new)
    assert all(torch.equal(tensors[name], copied[name]) for name in {*tensors, *copied})
    with pytest.raises(WeightsError, match=r"exists already"):
        copy_with_voxel_size(old, new, [1.0, 1.0])


@pytest.mark.parametrize("uri", ["s3://key:secret@bucket/w", "s3://key:a/secret@bucket/w"])
def test_the_error_of_weights_that_cannot_be_read_shows_no_password(uri: str) -> None:
    with pytest.raises(WeightsError) as caught:
        read_weights_info(uri)
    assert "secret" not in str(caught.value)
