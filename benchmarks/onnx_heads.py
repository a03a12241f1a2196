"""Every head of abaw as ONNX: how far its outputs are from torch's, and its rate in onnxruntime against torch's.

python -m benchmarks.onnx_heads [HEAD...]
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from pydantic import TypeAdapter

from abaw.core.devices import own_random_state
from abaw.predict.onnx_graphs import Graph, HeadGraph, Input, largest_difference, write_graph
from abaw.train.config import make_config
from abaw.train.head_options import HEADS, AnyHeadConfig
from abaw.train.model import Model

SHAPES = {"first": (64,), "second": (32,)}
WINDOW, BATCHES, LENGTHS = 128, (1, 3), (1, 7, 128)
# what a head does not take as it is
OPTIONS: dict[str, dict[str, object]] = {
    "anchored": {"anchor": "first"},
    "cross-attention": {"audio": "first", "dim": 64},
    "emma": {"vit": "first", "dan": "second"},
    "encoder": {"convs": (64,)},
    "transformer-lstm": {"convs": (64,)},
}
FURTHER = [("mamba", {"bidirectional": True}), ("gru", {"layers": 1}), ("mil", {"pool": "log-sum-exp"}),
           ("difference", {"differences": "window"}), ("cross-attention", {"audio": "", "pool": "flatten", "dim": 64}),
           ("encoder", {"convs": (64,), "output_hidden": 16})]  # fmt: skip
TASKS = {"cross-attention": "vgaf", "mil": "vgaf", "emma": "mtl", "logistic": "expr"}


def graph_of(name: str, options: dict[str, object]) -> Graph:
    """A head with random weights."""
    head = TypeAdapter(AnyHeadConfig).validate_python({"name": name, **options})
    config = make_config({"task": TASKS.get(name, "va"), "features": tuple(SHAPES), "head": head, "window": WINDOW})
    with own_random_state(0):
        model = Model(config, config.own_task, SHAPES).eval()
    inputs = {feature: Input(shape, torch.float32) for feature, shape in SHAPES.items()}
    masks = {f"{feature}.mask": Input((), torch.bool) for feature in SHAPES}
    module = HeadGraph(model, list(SHAPES), len(config.own_task.outputs))
    return Graph(module, {**inputs, **masks}, ("outputs",), ("batch", "time"), (BATCHES, LENGTHS))


def main() -> None:
    """Measure and print; exits with 1 if a head differs by more than 1e-4."""
    wanted = sys.argv[1:] or list(HEADS)
    cases = [(name, OPTIONS.get(name, {})) for name in wanted] + [case for case in FURTHER if case[0] in wanted]
    worst = 0.0
    print(
        "| head | options | largest difference | export, s | windows/s, onnxruntime over torch |\n|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, options) in enumerate(cases):
            file, graph = Path(folder) / f"{number}.onnx", graph_of(name, options)
            start = time.perf_counter()
            write_graph(graph, file, {}, f"Head {name!r}")
            took, difference = time.perf_counter() - start, largest_difference(graph, file)
            assert difference is not None, "onnxruntime is there"
            worst = max(worst, difference)
            ratio = _ratio(graph, file)
            words = ", ".join(f"{key}={value}" for key, value in options.items()) or "-"
            print(f"| {name} | {words} | {difference:.1e} | {took:.1f} | {ratio:.2f} |", flush=True)
    sys.exit(worst > 1e-4)


def _ratio(graph: Graph, file: Path) -> float:
    """Time of torch over that of onnxruntime, for eight windows."""
    import onnxruntime

    session, tensors = onnxruntime.InferenceSession(str(file)), graph.draw((8, WINDOW))
    inputs = {key: tensor.numpy() for key, tensor in zip(graph.inputs, tensors, strict=True)}
    with torch.inference_mode():
        return _seconds(lambda: graph.module(*tensors)) / _seconds(lambda: session.run(None, inputs))


def _seconds(action: Callable[[], object]) -> float:
    times = []
    for _ in range(5):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    main()
