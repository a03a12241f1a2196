"""What a GPU does: networks alone, extraction from crops and from video, decoding, training of the default head, fine-tuning.

python -m benchmarks.gpu --minutes 8

Needs no network: weights are random, crops and video are made. What there is no time left for is left out, and said.
The table is Markdown for docs/benchmarks.md. `--small` tries all of it with a small network, on a CPU if need be.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from abaw.backbones.backbone import create_backbone, describe
from abaw.backbones.extractor import Backbone
from abaw.core.errors import UsageError, first_line
from abaw.core.tasks import get_task
from abaw.datasets.clips import Clip
from abaw.datasets.frames import FrameSource
from abaw.datasets.synth.clips_writer import write_video
from abaw.datasets.video_files import People
from abaw.extract.feature import Feature
from abaw.extract.reader import FRAMES_PER_PIECE
from abaw.extract.runner import Runner
from abaw.extract.waits import describe_shares
from abaw.media.decoders import Decoded, TorchcodecDecoder
from abaw.media.images import read_image
from abaw.media.pictures import SHORTER_SIDE_PX, read_pictures
from abaw.media.stamps import read_stamps
from abaw.store import FeatureStore
from abaw.train.config import make_config
from abaw.train.data.on_device import place
from abaw.train.finetune.encoder_build import FirstWeights, build_first
from abaw.train.finetune.new_finetune import make_finetune_configs
from abaw.train.finetune.pixel_table import load_pixel_tables
from abaw.train.loop import Trainer
from abaw.train.model import Model
from benchmarks.crops import draw_crops, make_video
from benchmarks.finetuning import first_images
from benchmarks.measure import count_cores, describe_machine, say, show
from benchmarks.tables import FEATURE, random_table

Row = tuple[str, str, str]
CORE = "streams or for_nothing or halved or on_the_gpu or decoded"  # of the tests; all of them take longer


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        networks: names of backbones, the most important first.
        batch_sizes: of networks alone; extraction takes the one in the middle.
        round_s: seconds that a figure should take.
        most_frames: of an extraction.
        video: width, height and frames of the video file, and how many times it is read.
        table: videos, frames of each and values of each frame, for the training.
        finetuned: batch size and steps of an epoch, for the fine-tuning of the first network.
    """

    networks: tuple[str, ...] = ("vit-mean", "clip-l14", "iresnet100")
    batch_sizes: tuple[int, ...] = (256, 64, 1024)
    round_s: float = 3.0
    most_frames: int = 40_000
    video: tuple[int, int, int, int] = (1280, 720, 300, 16)
    table: tuple[int, int, int] = (200, 3000, 768)
    finetuned: tuple[int, int] = (64, 40)


SMALL = Sizes(("iresnet18",), (2, 4), 0.05, 12, (160, 96, 5, 2), (4, 120, 16), (2, 2))


@dataclass
class Benchmark:
    """A run of all measurements.

    Attributes:
        device: that networks run on.
        end: when the run has to be over, on the clock of `time.monotonic`.
        rows: what was measured: subject, setting and figure.
        left_out: what there was no time for.
        bare: frames a second of networks alone, by name and whether they were compiled.
    """

    sizes: Sizes
    device: torch.device
    root: Path
    end: float
    rows: list[Row] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    bare: dict[tuple[str, bool], float] = field(default_factory=dict)

    @property
    def precision(self) -> str:
        """The default one of the device."""
        return "bfloat16" if self.device.type == "cuda" else "float32"

    def add(self, subject: str, setting: str, figure: str) -> None:
        """Keep a row, and say it."""
        self.rows.append((subject, setting, figure))
        say(f"  {subject}, {setting}: {figure}")

    def try_to(self, what: str, seconds: float, measure: Callable[[], None]) -> None:
        """Measure something, unless it takes more time than is left; an error in it does not end the others.

        Args:
            seconds: that it may take.
        """
        if time.monotonic() + seconds > self.end:
            self.left_out.append(what)
            return
        try:
            measure()
        except Exception as error:  # the table says so
            self.add(what, "failed", f"{type(error).__name__}: {first_line(error)}")
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def repeat(action: Callable[[], object], round_s: float, device: torch.device) -> float:
    """Seconds of one call, after two that do not count; a GPU is done when it ends."""
    action(), action()
    _wait(device)
    begin, n_calls = time.perf_counter(), 0
    while n_calls < 3 or time.perf_counter() - begin < round_s:
        action()
        n_calls += 1
        if n_calls % 4 == 0:
            _wait(device)  # else thousands of calls would be queued
    _wait(device)
    return (time.perf_counter() - begin) / n_calls


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def bare_network(run: Benchmark, name: str, compiled: bool, batch_sizes: Sequence[int]) -> None:
    """Frames a second of a network from ready input, by batch size."""
    backbone = make_backbone(run, name, compiled)
    for batch_size in batch_sizes:
        image = backbone.spec.image
        assert image is not None
        pixels = torch.zeros((batch_size, *image.height_width, 3), dtype=torch.uint8)
        ready = backbone.preprocess(pixels)
        rate = batch_size / repeat(lambda ready=ready: backbone(ready), run.sizes.round_s, run.device)
        run.bare.setdefault((name, compiled), rate)
        run.add(f"{name} alone", f"{'compiled' if compiled else 'eager'}, batch {batch_size}", f"{show(rate)} frames/s")


def make_backbone(run: Benchmark, name: str, compiled: bool) -> Backbone:
    """A backbone with random weights in the precision of the run."""
    return create_backbone(name, device=str(run.device), precision=run.precision, untrained=True, compiled=compiled)


def extraction(run: Benchmark, name: str, compiled: bool, kind: str, sources: list[FrameSource]) -> None:
    """Frames a second from files to the store, of the network alone; and where the time goes."""
    backbone = make_backbone(run, name, compiled)
    feature = Feature(name, backbone, backbone.spec)
    batch_size = run.sizes.batch_sizes[0]
    numbers = iter(range(2))

    def extract(some: Sequence[FrameSource]) -> Any:
        store = FeatureStore.create(run.root / f"{name}-{compiled}-{kind}-{next(numbers)}.zarr")
        store.add_feature(feature.name, **describe(backbone, feature.spec, feature.view))
        summary = Runner(store, [feature], batch_size).run(some)
        assert summary.ok, summary
        return summary

    extract(sources[:1])  # compiles, and fills the page cache
    begin = time.perf_counter()
    summary = extract(sources)
    rate = summary.n_frames / (time.perf_counter() - begin)
    bare = run.bare.get((name, compiled))
    of_bare = f", {rate / bare:.2f} of the network alone" if bare else ""
    setting = f"{'compiled' if compiled else 'eager'}, batch {batch_size}, {summary.n_frames:,} frames"
    run.add(
        f"{name} from {kind} to the store",
        setting,
        f"{show(rate)} frames/s{of_bare}; {describe_shares(summary.waited_s)}",
    )


def decoders(run: Benchmark, crops: list[Path], video: Path) -> None:
    """Crops a second, and frames of a video file a second, with one thread and with all."""
    files = (crops * (1 + 4000 // len(crops)))[: 4000 if run.sizes.round_s >= 1 else 20]
    for n_threads in sorted({1, count_cores()}):
        with ThreadPoolExecutor(n_threads) as pool:
            seconds = repeat(lambda pool=pool: list(pool.map(read_image, files)), 0, torch.device("cpu"))
        run.add("decoding JPEG crops (simplejpeg)", f"{n_threads} threads", f"{show(len(files) / seconds)}/s")
        with ThreadPoolExecutor(n_threads) as pool:
            seconds = repeat(
                lambda pool=pool, n=n_threads: list(pool.map(count_pictures, [video] * n)), 0, torch.device("cpu")
            )
        rate = n_threads * run.sizes.video[2] / seconds
        width, height = run.sizes.video[:2]
        run.add(f"decoding H.264 {width}x{height} (PyAV)", f"{n_threads} threads", f"{show(rate)} frames/s")


def gpu_decoders(run: Benchmark, crops: list[Path], video: Path) -> None:
    """The same by torchcodec, on the GPU if there is one; pictures come back to the processor, as in extraction."""
    try:
        decoder = TorchcodecDecoder(run.device)
    except UsageError as error:
        run.add("decoding by torchcodec", "left out", str(error))
        return
    pieces = [crops[start : start + FRAMES_PER_PIECE] for start in range(0, len(crops), FRAMES_PER_PIECE)]
    pieces *= 1 + (4000 if run.sizes.round_s >= 1 else 20) // len(crops)

    def decode(piece: list[Path]) -> int:
        decoded = decoder.images([str(file) for file in piece], [file.read_bytes() for file in piece])
        return sum(isinstance(one, Decoded) and not one.by_processor for one in decoded)

    times_s = read_stamps(video).times_s().tolist()
    for n_threads in sorted({1, 7, count_cores()}):  # H100 and H200 have seven engines for each
        with ThreadPoolExecutor(n_threads) as pool:
            n_decoded = sum(pool.map(decode, pieces))
            seconds = repeat(lambda pool=pool: list(pool.map(decode, pieces)), 0, run.device)
            name = f"decoding JPEG crops (torchcodec, {run.device.type})"
            run.add(name, f"{n_threads} threads", f"{show(n_decoded / seconds)}/s")
            seconds = repeat(
                lambda pool=pool, n=n_threads: list(
                    pool.map(lambda _: decoder.pictures_at(video, times_s, SHORTER_SIDE_PX), range(n))
                ),
                0,
                run.device,
            )
        by_processor = decoder.pictures_at(video, times_s[:1], SHORTER_SIDE_PX)[0].by_processor
        figure = f"{show(n_threads * len(times_s) / seconds)} frames/s{', by the processor' if by_processor else ''}"
        run.add(f"decoding a video (torchcodec, {run.device.type})", f"{n_threads} threads", figure)


def count_pictures(video: Path) -> int:
    """Decode a file as extraction does."""
    return sum(1 for _ in read_pictures(video, shorter_side=SHORTER_SIDE_PX))


def training(run: Benchmark) -> None:
    """Steps a second of the default head, from a table that lies on the GPU where it fits."""
    config = make_config({"task": "va", "features": (FEATURE,)})
    task, (n_videos, n_frames, width) = get_task(config.task), run.sizes.table
    table = place(random_table(task, n_videos, n_frames, width), run.device)
    torch.manual_seed(0)
    model = Model(config, task, {FEATURE: (width,)}).to(run.device)
    trainer = Trainer(config, task, model, table, run.device)
    trainer.run_epoch(1)
    _, seconds, waiting_s = trainer.run_epoch(2)
    figure = f"{show(trainer.n_steps / seconds)} steps/s, {waiting_s / seconds:.1%} of the time waiting for data"
    run.add("training of the default head", f"{n_videos * n_frames:,} frames x {width}", figure)


def finetuning(run: Benchmark, data: Path) -> None:
    """Images a second of a fine-tuning with the default options, decoding and augmentation included, and its memory.

    Args:
        data: a dataset of crops, whose images come several times in an epoch.
    """
    name, (batch_size, n_steps) = run.sizes.networks[0], run.sizes.finetuned
    config = make_finetune_configs("va", [name], {}, [f"batch_size={batch_size}"])[0]
    task = get_task(config.task)
    (table,) = load_pixel_tables(task, "", data, ("train",))
    n_images = min(batch_size * n_steps, int((table.valid.any(axis=1) & table.has_feature).sum()))
    table = first_images(table, n_images // batch_size * batch_size)
    n_epochs = max(1, batch_size * n_steps // n_images)
    torch.manual_seed(0)
    model = build_first(config, FirstWeights({}, untrained=True))[0].to(run.device)
    model.freeze_unused()
    trainer = Trainer(config, task, model, table, run.device)
    if run.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(run.device)
    trainer.run_epoch(1)
    timings = [trainer.run_epoch(2 + number)[1:] for number in range(n_epochs)]
    seconds, waiting_s = (sum(values) for values in zip(*timings, strict=True))
    rate = n_epochs * trainer.n_steps * batch_size / seconds
    memory = ""
    if run.device.type == "cuda":
        memory = f", {torch.cuda.max_memory_allocated(run.device) / 2**30:.1f} GiB at most"
    figure = f"{show(rate)} images/s, {waiting_s / seconds:.1%} of the time waiting for data{memory}"
    run.add(f"fine-tuning of {name}", f"batch {batch_size}, augment={config.augment}", figure)


def tests_on_gpu(run: Benchmark) -> None:
    """The core of the tests of tests/gpu, in a process of their own that ends in time."""
    root = Path(__file__).resolve().parents[1]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gpu", "-k", CORE]
    left_s = max(1.0, 0.25 * (run.end - time.monotonic()))
    try:
        ended = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, timeout=left_s)
    except subprocess.TimeoutExpired as error:
        lines = (error.stdout or b"").decode(errors="replace").splitlines()
        run.add("tests/gpu", "stopped", f"not over after {left_s:.0f} s; last line: {lines[-1] if lines else '-'}")
        return
    lines = ended.stdout.splitlines()
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            say(f"  {line}")
    last = lines[-1] if lines else "no output"
    outcome = "FAILED" if ended.returncode else "passed" if " passed" in last else "nothing ran"
    run.add("tests/gpu", outcome, last)


def videos_of(run: Benchmark, crops: list[Path]) -> Iterator[FrameSource]:
    """Videos of crops, as many frames as an extraction may take."""
    n_each = max(1, run.sizes.most_frames // 10)
    for number in range(10):
        yield make_video(run.root / "crops", f"video-{number}", crops, n_each, link=True)


def write_clip(run: Benchmark, crops: list[Path]) -> Path:
    """A video file of moving pictures."""
    width, height, n_frames, _ = run.sizes.video
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 256, (height // 8 + 9, width // 8 + 9, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    shifts = [number % 64 for number in range(n_frames)]
    file = run.root / "clip.mp4"
    write_video(file, np.stack([scene[shift : shift + height, shift : shift + width] for shift in shifts]))
    return file


def measure_all(run: Benchmark) -> None:
    """All measurements, the most important first."""
    if run.device.type == "cuda":
        run.try_to("tests/gpu", 30, lambda: tests_on_gpu(run))
    crops = draw_crops(run.root)
    video = write_clip(run, crops)
    width, height, n_frames, n_times = run.sizes.video
    clips = [Clip(f"clip-{n}", video, video, n_frames).open(None, People(run.root)) for n in range(n_times)]
    sources, slow_s = list(videos_of(run, crops)), 10 * run.sizes.round_s
    first, batch_sizes = run.sizes.networks[0], run.sizes.batch_sizes
    for name in run.sizes.networks:
        run.try_to(f"{name} alone", slow_s, lambda name=name: bare_network(run, name, False, batch_sizes))
        run.try_to(f"{name} from crops", slow_s, lambda name=name: extraction(run, name, False, "crops", sources))
    kind = f"H.264 {width}x{height}"
    run.try_to(f"{first} from video", slow_s, lambda: extraction(run, first, False, kind, clips))
    run.try_to("decoders", slow_s, lambda: decoders(run, crops, video))
    run.try_to("torchcodec", slow_s, lambda: gpu_decoders(run, crops, video))
    run.try_to("training", slow_s, lambda: training(run))
    run.try_to(f"{first} fine-tuned", 2 * slow_s, lambda: finetuning(run, run.root / "drawn"))
    for name in run.sizes.networks:
        run.try_to(f"{name} compiled", 2 * slow_s, lambda name=name: bare_network(run, name, True, batch_sizes[:1]))
    run.try_to(f"{first} compiled", 2 * slow_s, lambda: extraction(run, first, True, "crops", sources))


def as_table(run: Benchmark, command: str) -> str:
    """The machine, the day and the rows as Markdown."""
    machine = describe_machine()
    device = torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else "no GPU used"
    lines = [
        f"Measured on {machine['date']} with `{command}`: {device}, {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB of memory, Python {machine['python']}, PyTorch {machine['torch']}, "
        f"{run.precision}; random weights.",
        *("", "| what | setting | figure |", "|---|---|---|"),
        *(f"| {subject} | {setting} | {figure} |" for subject, setting, figure in run.rows),
    ]
    if run.left_out:
        lines += ["", f"No time was left for: {', '.join(run.left_out)}."]
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8.0, help="after which nothing new begins")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the benchmark itself")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu with --small")
    arguments = parser.parse_args()
    has_gpu = torch.cuda.is_available()
    if not has_gpu and not arguments.small:
        parser.error("there is no GPU here; --small tries the benchmark on the CPU")
    device = torch.device(arguments.device if has_gpu else "cpu")
    sizes = SMALL if arguments.small else Sizes()
    end = time.monotonic() + 60 * arguments.minutes
    with tempfile.TemporaryDirectory() as folder:
        run = Benchmark(sizes, device, Path(folder), end)
        measure_all(run)
    print(as_table(run, " ".join(["python -m benchmarks.gpu", *sys.argv[1:]])))


if __name__ == "__main__":
    main()
