"""The runtimes, one row each: everything that differs between them, for the runner and for those who ask it.

A new runtime is a row here, its name in edgeship/core/config/validate.py, and the module that the row's `opener` or
`bridge` names. No field is keyword-only, since devices may have Python 3.9; rows name them all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# What a runtime's figures prove (`Runtime.checks`).
GOLDEN = "golden"  # on the processor of the export its integers are the bundle's golden outputs
FORMATS = "formats"  # with the runtime of another format: the two files ship as one model
OPTIMIZER = "optimizer"  # with the same library, its optimizations off: the optimized kernels compute the same

# What looks inside a file (`Runtime.probes`).
PROFILE = "profile"  # the time of each operation, where the profiler is out of reach of the runtime's own interpreter
RESULTS = "results"  # the result of each operation
LAYERS = "layers"  # each layer alone, on integers that it is given


@dataclass(frozen=True)
class Probe:
    """Another way to open a file, on this machine only: to look inside."""

    opener: str  # "package.module:function", called with (path, threads=...)
    formats: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()  # what it needs


@dataclass(frozen=True)
class Runtime:
    """One row of the table."""

    takes: tuple[str, ...]  # formats: "tflite", "onnx", "ort", "keras"
    production: bool  # what users run, so its figures are gated; the others explain them
    # "module:function", called with (path, threads=...) in the runner's process; a module that begins with a dot is
    # the runner's own, so it works on devices too. None: a bridge asks another program, so no process of the runner
    # can be bound to processors or asked which operations ran as integers.
    opener: str | None = None
    bridge: str | None = None  # the module of the bridge to a maker's tool
    packages: tuple[str, ...] = ()  # each of them brings the library; the first one is the one that is pinned here
    modules: tuple[str, ...] = ()  # without them its rows are not measured, unless the user asked for this runtime
    checks: tuple[str, ...] = ()
    probes: dict[str, Probe] = field(default_factory=dict)
    # The runtime on this machine whose answers these kernels' answers are held against.
    baseline: str | None = None
    # Processes that share the cores in the accuracy run. TensorFlow threads by itself and is large.
    one_process: bool = False
    float_tensors_only: bool = False  # takes no int8 inputs and outputs
    # A maker's command line tool: it is told what the input and output are, loads the model anew for each launch, and
    # gives outputs in some builds only. `option` of `edgeship validate` names its file.
    tool: bool = False
    option: str | None = None
    kernels: str | None = None  # for fingerprints of times: whose kernels it asks for
    remark: str = ""  # of `edgeship doctor`, after the package's version

    @property
    def by_runner(self) -> bool:
        """Whether a process of the runner opens the file."""
        return self.opener is not None

    @property
    def on_devices(self) -> bool:
        """Whether it works wherever there is a Python with NumPy and the runtime's package."""
        return self.opener is not None and self.opener.startswith(".")


RUNTIMES: dict[str, Runtime] = {
    "keras": Runtime(
        takes=("keras",), production=False, opener="edgeship.validate.probes.reference:open_keras", one_process=True,
        modules=("tensorflow", "tf_keras"),
    ),
    "litert": Runtime(
        takes=("tflite",), production=True, opener=".litert:open_litert",
        packages=("ai-edge-litert", "tflite-runtime"), checks=(GOLDEN, FORMATS), kernels="default (XNNPACK)",
        probes={
            PROFILE: Probe(opener="edgeship.validate.probes.litert_profile:open_profile"),
            RESULTS: Probe(
                opener="edgeship.validate.probes.litert:open_keeping_tensors", formats=("tflite",),
                packages=("ai-edge-litert",),
            ),
        },
    ),
    "litert-reference": Runtime(
        takes=("tflite",), production=False, opener=".litert:open_reference_kernels",
        packages=("ai-edge-litert", "tflite-runtime"), kernels="none, reference kernels",
        remark=", its reference kernels",
    ),
    "onnxruntime": Runtime(
        takes=("onnx", "ort"), production=True, opener=".onnxruntime:open_onnxruntime", packages=("onnxruntime",),
        checks=(GOLDEN, FORMATS, OPTIMIZER), kernels="CPUExecutionProvider",
        probes={
            RESULTS: Probe(
                opener="edgeship.validate.probes.ort_tensors:open_keeping_results", formats=("onnx",),
                packages=("onnx", "onnxruntime"),
            ),
            LAYERS: Probe(opener="edgeship.validate.probes.layers:open_layers"),
        },
    ),
    "onnxruntime-unoptimized": Runtime(
        takes=("onnx",), production=False, opener=".onnxruntime:open_unoptimized", packages=("onnxruntime",),
        checks=(OPTIMIZER,), kernels="CPUExecutionProvider, graph as written", remark=", its optimizations off",
    ),
    "litert-web": Runtime(
        takes=("tflite",), production=True, one_process=True, float_tensors_only=True, baseline="litert",
    ),
    "onnxruntime-web": Runtime(takes=("onnx", "ort"), production=True, one_process=True, baseline="onnxruntime"),
    "benchmark-model": Runtime(
        takes=("tflite",), production=True, bridge="edgeship.validate.bridges.benchmark_model", one_process=True,
        tool=True, option="--benchmark-model", baseline="litert", kernels="default (XNNPACK)",
    ),
    "onnxruntime-perf-test": Runtime(
        takes=("onnx", "ort"), production=True, bridge="edgeship.validate.bridges.onnxruntime_perf_test",
        one_process=True, tool=True, option="--perf-test", baseline="onnxruntime", kernels="CPUExecutionProvider",
    ),
}
DEVICE_RUNTIMES = tuple(name for name, runtime in RUNTIMES.items() if runtime.on_devices)
# The packages of those.
PACKAGES = tuple(dict.fromkeys(package for name in DEVICE_RUNTIMES for package in RUNTIMES[name].packages))
PINNED_PACKAGES = tuple(dict.fromkeys(RUNTIMES[name].packages[0] for name in DEVICE_RUNTIMES))


def taking_part(check: str) -> frozenset[str]:
    """Return the runtimes whose figures a check of the gate looks at."""
    return frozenset(name for name, runtime in RUNTIMES.items() if check in runtime.checks)
