"""The predictor gives the model's scores, states its geometry, and travels light."""

from __future__ import annotations

import dataclasses
import math
import os
import pickle
import platform
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from deploy.clusters.worker_environment import KEPT_MEMORY
from pipeline.base.errors import ConfigError, WeightsError
from pipeline.models.protocol import Predictor
from unet import UNet, UNetConfig, UNetPredictor, load_weights
from unet.predict import predictor as predictor_module
from unet.predict import runtime
from unet.predict.cpu_features import processor_has_bf16
from unet.predict.predictor import Precision

PLANAR = UNetConfig(base_channels=4, levels=3, classes=3, in_channels=2)
SOLID = UNetConfig(dims=3, base_channels=2, levels=2, pooling=((1, 2, 2),))
GPU = torch.cuda.is_available()
no_gpu = pytest.mark.skipif(GPU, reason="holds where there is no GPU")
has_bf16 = pytest.mark.skipif(
    not runtime.has_bf16_convolutions(torch.device("cpu")),
    reason="torch has no bfloat16 convolutions for this processor: precision bf16 is refused here",
)
on_x86 = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="oneDNN is held to older instructions on x86 only"
)

Weights = Callable[..., Path]


def tiles(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).random(shape, dtype=np.float32)


def whole(path: Path, x: np.ndarray) -> np.ndarray:
    """Return the probabilities of the bare model."""
    with torch.no_grad():
        scores: np.ndarray = load_weights(path)[0](torch.from_numpy(x)).softmax(1).numpy()
    return scores


def test_the_predictor_is_what_the_pipeline_asks_for(weights_file: Weights) -> None:
    predictor = UNetPredictor(weights_file(PLANAR, normalisation={"kind": "dtype"}))
    assert isinstance(predictor, Predictor)
    assert predictor.in_channels == 2
    assert predictor.class_names == ("background", "class 1", "class 2")
    assert predictor.normalisation == {"kind": "dtype"}
    assert predictor.tile_dependent_layers == ()
    assert isinstance(predictor.settled(), Predictor)


def test_a_2_d_network_states_no_context_in_z(weights_file: Weights) -> None:
    predictor = UNetPredictor(weights_file(PLANAR))
    assert predictor.halo == (0, *PLANAR.halo)
    assert predictor.divisor == (1, 4, 4)
    assert predictor.input_shape((5, 30, 9)) == (5, *PLANAR.input_shape((30, 9)))
    solid = UNetPredictor(weights_file(SOLID))
    assert (solid.halo, solid.divisor) == (SOLID.halo, (1, 2, 2))
    assert solid.input_shape((5, 30, 9)) == SOLID.input_shape((5, 30, 9))


def test_2_d_scores_are_those_of_each_slice(weights_file: Weights) -> None:
    path = weights_file(PLANAR)
    predictor = UNetPredictor(path, precision="fp32", device="cpu")
    x = tiles((2, 2, *predictor.input_shape((3, 8, 12))))
    scores = predictor(x)
    assert scores.shape == (2, 3, 3, *PLANAR.output_shape(x.shape[3:]))
    assert scores.dtype == np.float32
    assert scores.std() > 0.15
    for z in range(3):
        np.testing.assert_allclose(scores[:, :, z], whole(path, x[:, :, z]), atol=1e-6)


def test_3_d_scores_are_the_model_s(weights_file: Weights) -> None:
    path = weights_file(SOLID)
    predictor = UNetPredictor(path, precision="fp32", device="cpu")
    x = tiles((2, 1, *predictor.input_shape((4, 6, 8))))
    np.testing.assert_allclose(predictor(x), whole(path, x), atol=1e-6)


def test_read_only_and_scattered_tiles_give_the_same_scores(weights_file: Weights) -> None:
    predictor = UNetPredictor(weights_file(SOLID), precision="fp32", device="cpu")
    x = tiles((1, 1, *predictor.input_shape((4, 6, 8))))
    scores = predictor(x)
    scattered = np.asfortranarray(x)
    scattered.flags.writeable = x.flags.writeable = False
    assert np.array_equal(predictor(x), scores)
    assert np.array_equal(predictor(scattered), scores)


@has_bf16
@pytest.mark.parametrize("config", [PLANAR, SOLID], ids=["2-D", "3-D"])
def test_bf16_stays_near_fp32(weights_file: Weights, config: UNetConfig) -> None:
    path = weights_file(config)
    exact = UNetPredictor(path, precision="fp32", device="cpu")
    x = tiles((1, config.in_channels, *exact.input_shape((4, 24, 24))))
    rounded = UNetPredictor(path, precision="bf16", device="cpu")(x)
    assert rounded.dtype == np.float32
    difference = np.abs(rounded - exact(x))
    assert 0 < difference.mean() < 0.02
    np.testing.assert_allclose(rounded.sum(axis=1), 1, atol=1e-5)


def test_sub_batches_change_no_score(
    weights_file: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = UNetPredictor(weights_file(PLANAR), precision="fp32", device="cpu")
    shape = predictor.input_shape((7, 8, 8))
    x = tiles((1, 2, *shape))
    together = predictor(x)
    sizes: list[int] = []
    monkeypatch.setattr(
        predictor_module, "SUB_BATCH_BYTES", 3 * predictor.image_bytes(shape[1:]) + 1
    )
    runtime.loaded_model(predictor.weights_uri, predictor.digest, "cpu", "fp32")
    model = runtime.loaded_model(predictor.weights_uri, predictor.digest, "cpu", "fp32")
    handle = model.register_forward_pre_hook(lambda _model, inputs: sizes.append(len(inputs[0])))
    np.testing.assert_allclose(predictor(x), together, atol=1e-6)
    handle.remove()
    assert sizes == [3, 3, 1]


def test_the_predictor_travels_light_and_settles_nothing_on_the_way(
    weights_file: Weights, network: Callable[..., UNet]
) -> None:
    predictor = UNetPredictor(weights_file(UNetConfig(base_channels=16, levels=3)))
    message = pickle.dumps(predictor)
    assert len(message) < 10_000
    os.unlink(predictor.weights_uri)  # the header is not read again where it lands
    landed = pickle.loads(message)
    assert landed == predictor
    assert landed.digest == predictor.digest


def test_a_relative_path_means_the_same_from_any_folder(
    weights_file: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = weights_file(PLANAR)
    monkeypatch.chdir(path.parent)
    assert UNetPredictor("w.safetensors").weights_uri == str(path)


def test_nothing_is_set_from_outside(weights_file: Weights) -> None:
    predictor = UNetPredictor(weights_file(PLANAR))
    with pytest.raises(dataclasses.FrozenInstanceError):
        predictor.precision = "bf16"  # type: ignore[misc]


def test_weights_are_loaded_once_however_many_threads_ask(
    weights_file: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = UNetPredictor(weights_file(PLANAR), precision="fp32", device="cpu")
    loads: list[str] = []

    def counted(uri: str) -> object:
        loads.append(uri)
        return load_weights(uri)

    monkeypatch.setattr(runtime, "load_weights", counted)
    x = tiles((1, 2, *predictor.input_shape((1, 4, 4))))
    with ThreadPoolExecutor(4) as threads:
        scores = list(threads.map(predictor, [x] * 8))
    assert len(loads) == 1
    assert all(np.array_equal(scores[0], other) for other in scores)


def test_weights_that_changed_since_the_plan_are_refused(weights_file: Weights) -> None:
    predictor = UNetPredictor(weights_file(PLANAR), precision="fp32", device="cpu")
    weights_file(PLANAR, provenance={"trained": "further"})
    with pytest.raises(WeightsError, match="changed since the run was planned"):
        predictor(tiles((1, 2, *predictor.input_shape((1, 4, 4)))))


def test_tiles_that_do_not_fit_the_network_are_refused(weights_file: Weights) -> None:
    predictor = UNetPredictor(weights_file(PLANAR), device="cpu")
    z, y, x = predictor.input_shape((1, 4, 4))
    for shape, reason in [
        ((1, 2, z, y + 1, x), "axis 0"),
        ((1, 1, z, y, x), "2 input channel"),
        ((2, z, y, x), r"expected \(n, 2, z, y, x\)"),
    ]:
        with pytest.raises(ConfigError, match=reason):
            predictor(tiles(shape))
    with pytest.raises(ConfigError, match=r"expected \(z, y, x\)"):
        predictor.flops((4, 4))


@pytest.mark.parametrize("options", [{"precision": "fp16"}, {"device": "tpu"}, {"device": "cuda:"}])
def test_unknown_precisions_and_devices_are_refused_at_once(
    weights_file: Weights, options: dict[str, str]
) -> None:
    with pytest.raises(ConfigError, match="expected auto"):
        UNetPredictor(weights_file(PLANAR), **options)  # type: ignore[arg-type]


@no_gpu
@pytest.mark.parametrize("device", ["cuda", "cuda:3"])
def test_asking_for_a_gpu_where_there_is_none_fails(weights_file: Weights, device: str) -> None:
    predictor = UNetPredictor(weights_file(PLANAR), device=device)
    for use in (predictor.settled, lambda: predictor(tiles((1, 2, 1, 60, 60)))):
        with pytest.raises(ConfigError, match=r"sees 0 GPU\(s\)") as caught:
            use()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("native", [True, False])
def test_auto_is_bf16_where_the_device_has_it(
    weights_file: Weights, monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    monkeypatch.setattr(runtime, "has_native_bf16", lambda _device: native)
    monkeypatch.setattr(runtime, "has_bf16_convolutions", lambda _device: True)
    predictor = UNetPredictor(weights_file(PLANAR))
    assert predictor.settings() == {"precision": "auto"}
    settled = predictor.settled()
    assert settled.settings() == {"precision": "bf16" if native else "fp32"}
    assert settled.device == "auto"
    assert settled.settled() == settled
    assert UNetPredictor(predictor.weights_uri, precision="fp32").settled().precision == "fp32"


def test_out_of_memory_is_a_memory_error_and_other_errors_are_not(
    weights_file: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = UNetPredictor(weights_file(PLANAR), precision="fp32", device="cpu")
    x = tiles((1, 2, *predictor.input_shape((1, 4, 4))))
    words = "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"

    def fails_with(error: RuntimeError) -> None:
        def forward(self: UNet, x: torch.Tensor) -> torch.Tensor:
            raise error

        monkeypatch.setattr(UNet, "forward", forward)

    of_cudnn = "GET was unable to find an engine to execute this computation"
    for error in (
        RuntimeError(words), RuntimeError(of_cudnn),
        torch.OutOfMemoryError("CUDA out of memory.\nTried"),
    ):  # fmt: skip
        fails_with(error)
        with pytest.raises(MemoryError, match=r"does not fit cpu") as caught:
            predictor(x)
        assert "\n" not in str(caught.value)
    fails_with(RuntimeError("a real bug"))
    with pytest.raises(RuntimeError, match="a real bug"):
        predictor(x)


def test_a_tile_too_large_for_the_machine_is_a_memory_error(weights_file: Weights) -> None:
    command = f"""
import resource, numpy as np
from unet import UNetPredictor
predictor = UNetPredictor({str(weights_file(SOLID))!r}, precision="fp32", device="cpu")
small = np.zeros((1, 1, *predictor.input_shape((2, 2, 2))), np.float32)
predictor(small)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
large = np.zeros((1, 1, *predictor.input_shape((128, 256, 256))), np.float32)
resource.setrlimit(resource.RLIMIT_AS, (used + 2 * large.nbytes,) * 2)
try:
    predictor(large)
except MemoryError as error:
    predictor(small)
    print("halve it")
"""
    assert python(command) == "halve it"


@pytest.mark.slow
def test_threads_are_set_by_our_variable_alone(weights_file: Weights) -> None:
    command = f"""
import numpy as np, torch
from unet import UNetPredictor
predictor = UNetPredictor({str(weights_file(PLANAR))!r}, device="cpu")
predictor(np.zeros((1, 2, *predictor.input_shape((1, 4, 4))), np.float32))
print(torch.get_num_threads())
"""
    assert python(command, OMP_NUM_THREADS="1") == "1"
    assert python(command, OMP_NUM_THREADS="1", OVERTILE_TORCH_THREADS="2") == "2"


def test_reading_a_plan_needs_no_torch(weights_file: Weights) -> None:
    command = f"""
import sys, unet
unet.UNetConfig(dims=3).parameters
predictor = unet.UNetPredictor({str(weights_file(PLANAR))!r})
predictor.input_shape((1, 4, 4)), predictor.flops((1, 4, 4)), predictor.memory_bytes((1, 4, 4))
print("torch" in sys.modules)
"""
    assert python(command) == "False"


def test_a_slab_costs_as_many_flops_as_its_slices(weights_file: Weights) -> None:
    predictor = UNetPredictor(weights_file(PLANAR))
    assert predictor.flops((5, 8, 8)) == 5 * PLANAR.flops(PLANAR.input_shape((8, 8)))
    solid = UNetPredictor(weights_file(SOLID))
    assert solid.flops((4, 6, 8)) == SOLID.flops(SOLID.input_shape((4, 6, 8)))


def test_memory_grows_with_the_tile_and_not_with_more_sub_batches(weights_file: Weights) -> None:
    predictor = UNetPredictor(weights_file(PLANAR), precision="fp32")
    own = predictor.image_bytes(PLANAR.input_shape((512, 512)))
    few, many = (predictor.memory_bytes((z, 512, 512)) for z in (1, 1000))
    assert own < few < many < predictor_module.SUB_BATCH_BYTES + 1000 * (few - own)
    half = UNetPredictor(predictor.weights_uri, precision="bf16")
    assert half.memory_bytes((1, 512, 512)) < few


@pytest.mark.parametrize(("native", "precision"), [(True, "bf16"), (False, "fp32")])
def test_auto_takes_the_memory_of_what_it_is_on_this_machine(
    weights_file: Weights, monkeypatch: pytest.MonkeyPatch, native: bool, precision: Precision
) -> None:
    monkeypatch.setattr(predictor_module, "processor_has_bf16", lambda: native)
    auto = UNetPredictor(weights_file(PLANAR))
    stated = UNetPredictor(auto.weights_uri, precision=precision)
    assert auto.memory_bytes((1, 512, 512)) == stated.memory_bytes((1, 512, 512))


def test_the_processor_s_flags_and_torch_agree_on_bf16() -> None:
    assert processor_has_bf16() == runtime.has_native_bf16(torch.device("cpu"))


@on_x86
@pytest.mark.parametrize("isa", ["AVX2", pytest.param("AVX512_CORE", marks=pytest.mark.slow)])
def test_auto_is_fp32_where_onednn_is_held_to_older_instructions(isa: str) -> None:
    command = """
import torch
from unet.predict import cpu_features, runtime
cpu = torch.device("cpu")
print(cpu_features.processor_has_bf16(), runtime.settle_precision("auto", cpu))
"""
    assert python(command, ONEDNN_MAX_CPU_ISA=isa) == "False fp32"


@on_x86
def test_bf16_is_refused_where_torch_has_no_bfloat16_convolutions(weights_file: Weights) -> None:
    command = f"""
import numpy as np
from pipeline.base.errors import ConfigError
from unet import UNetPredictor
predictor = UNetPredictor({str(weights_file(SOLID))!r}, precision="bf16", device="cpu")
x = np.zeros((1, 1, *predictor.input_shape((2, 2, 2))), np.float32)
for use in (predictor.settled, lambda: predictor(x)):
    try:
        use()
    except ConfigError as error:
        print(error)
"""
    lines = python(command, ONEDNN_MAX_CPU_ISA="AVX2").splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("precision bf16: torch has no bfloat16 convolutions")
        assert line.endswith("use precision auto or fp32")


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
@pytest.mark.parametrize(
    ("dims", "core", "precision"),
    [
        (3, (92, 92, 92), "fp32"),
        pytest.param(2, (1, 900, 900), "bf16", marks=has_bf16),
        pytest.param(3, (92, 92, 92), "bf16", marks=[has_bf16, pytest.mark.slow]),
        pytest.param(2, (1, 900, 900), "fp32", marks=pytest.mark.slow),
    ],
)
def test_the_stated_memory_is_the_measured_peak(
    weights_file: Weights, precision: str, dims: int, core: tuple[int, int, int]
) -> None:
    path = weights_file(UNetConfig(dims=dims, base_channels=16, levels=3))
    command = f"""
import numpy as np
from unet import UNetPredictor
def kilobytes(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if key in line)
predictor = UNetPredictor({str(path)!r}, precision={precision!r}, device="cpu")
predictor(np.zeros((1, 1, *predictor.input_shape((1, 1, 1))), np.float32))
x = np.random.rand(1, 1, *predictor.input_shape({core})).astype(np.float32)
before = kilobytes("VmRSS")
open("/proc/self/clear_refs", "w").write("5")
predictor(x)
print((kilobytes("VmHWM") - before) * 1024 / predictor.memory_bytes({core}))
"""
    assert 0.75 < float(python(command)) < 1.25


def test_scores_of_many_channels_are_part_of_the_stated_memory(weights_file: Weights) -> None:
    config = UNetConfig(dims=2, base_channels=2, levels=2, classes=64)
    for precision, copies in (("fp32", 4 + 4), ("bf16", 2 + 4 + 4)):
        predictor = UNetPredictor(weights_file(config), precision=precision, device="cpu")  # type: ignore[arg-type]
        out = config.output_shape(config.input_shape((200, 200)))
        assert predictor.image_bytes(config.input_shape((200, 200))) > 64 * math.prod(out) * copies


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_memory_that_runs_out_in_onednn_is_a_memory_error_and_another_thread_goes_on(
    weights_file: Weights,
) -> None:
    path = weights_file(UNetConfig(dims=3, base_channels=8, levels=3))
    command = f"""
import resource, threading
import numpy as np
from unet import UNetPredictor
predictor = UNetPredictor({str(path)!r}, precision="fp32", device="cpu")
def compute(how, core):
    shape = predictor.input_shape(core)
    try:
        if how == "sweep":
            read = lambda a, b: np.zeros((1, b - a, *shape[1:]), "f4")
            for scores in predictor.sweep(read, shape):
                pass
        else:
            predictor(np.zeros((1, 1, *shape), "f4"))
        print("computed")
    except MemoryError as error:
        print("primitive" if "primitive" in str(error) else "memory")
compute("call", (48, 96, 96))
limits = resource.getrlimit(resource.RLIMIT_AS)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used, limits[1]))
compute("call", (16, 40, 44))
compute("sweep", (16, 88, 96))
resource.setrlimit(resource.RLIMIT_AS, limits)
thread = threading.Thread(target=compute, args=("call", (16, 40, 44)))
thread.start()
thread.join()
"""
    lines = python(command, **KEPT_MEMORY, OMP_NUM_THREADS="1").splitlines()
    assert lines[0] == lines[3] == "computed"
    assert lines[1] in ("primitive", "memory")  # by the processor's kind
    assert lines[2] == "memory"


@pytest.mark.gpu
@pytest.mark.skipif(not GPU, reason="no GPU here")
@pytest.mark.parametrize("config", [PLANAR, SOLID], ids=["2-D", "3-D"])
def test_a_gpu_gives_the_cpu_s_scores(weights_file: Weights, config: UNetConfig) -> None:
    path = weights_file(config)
    on_cpu = UNetPredictor(path, precision="fp32", device="cpu")
    x = tiles((2, config.in_channels, *on_cpu.input_shape((4, 24, 24))))
    on_gpu = UNetPredictor(path, precision="fp32", device="cuda")
    np.testing.assert_allclose(on_gpu(x), on_cpu(x), atol=1e-4)


def python(command: str, **environment: str) -> str:
    """Run in a fresh interpreter, from this repository, and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", command],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
