"""From video files straight to features: against its parts, against `abaw prepare` and `abaw extract`, and its memory.

python -m benchmarks.from_videos [VIDEO]
"""

import resource
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import torch

from abaw.backbones.spec import ImageInput
from abaw.core.progress import Silent
from abaw.extract.extraction import extract
from abaw.extract.faces.detector import create_detector
from abaw.extract.faces.following import FaceFollower
from abaw.extract.faces.prepare import PrepareOptions, prepare_videos
from abaw.extract.request import BATCH_SIZES, ExtractOptions, create_features
from abaw.media.pictures import read_pictures
from abaw.store import FeatureStore
from benchmarks.extraction import Places
from benchmarks.faces import VIDEO
from benchmarks.measure import Report, Requirement, in_turns, median_ratio

NETWORKS = {"fer": False, "vit-tiny-mean": True}  # untrained, where weights would have to be downloaded
ROUNDS = 3
MEMORY = {"1 video of 1,800 frames": (1, 25), "50 videos of 72 frames": (50, 1), "1 video of 7,200 frames": (1, 100)}
LENGTHS = {"1 minute": 1800, "20 minutes": 36_000, "2 hours": 216_000}  # frames of whole pictures
SMALL, GROUP = (64, 48), 30  # pixels, and frames of a group of pictures
METHOD = [
    "One video of one face in the page cache, 640x360, 72 frames, unless another is named; the clock of the file is known, "
    "as it is after the first reading; on the processor, float32.",
    "The two parts run as two threads at the same time: decoding, detecting and following; and the network alone on as many "
    "ready batches. `prepare` then `extract` write JPEG crops in between.",
    "Memory is the highest of a new process each, with `fer`; of hours, with `--faces whole`, pictures of 64x48 and a network "
    "that takes their means. Commands are new processes each, and count by their processor time.",
]
PEAK = """
import sys
from pathlib import Path
from abaw.core.progress import Silent
from abaw.extract.extraction import extract
from abaw.extract.request import ExtractOptions
from benchmarks.measure import peak_kib

data, store, backbone, faces = sys.argv[1:]
options = ExtractOptions(Path(data), Path(store), (backbone,), device="cpu", precision="fp32", faces=faces)
summary = extract(options, Silent())
assert summary.ok, summary
print(peak_kib())
"""


def straight(video: Path, network: str, places: Places) -> ExtractOptions:
    """Options that take faces from the folder of a video."""
    untrained = NETWORKS[network]
    return ExtractOptions(
        video.parent, places.new(), (network,), device="cpu", precision="fp32", untrained=untrained, faces="track"
    )


def run(options: ExtractOptions) -> None:
    """Extract; nothing may fail."""
    summary = extract(options, Silent())
    assert summary.ok and summary.done, summary


def by_way_of_crops(video: Path, network: str, places: Places) -> Path:
    """`prepare`, then `extract`; returns the store."""
    data, store = places.new(), places.new()
    assert prepare_videos(PrepareOptions((video,), data, device="cpu"), Silent()).ok
    untrained = NETWORKS[network]
    run(ExtractOptions(data, store, (network,), device="cpu", precision="fp32", untrained=untrained))
    return store


def parts_at_once(video: Path, network: str) -> Callable[[], None]:
    """Following in one thread, the network on ready batches in another."""
    detector = create_detector("mtcnn", "cpu")
    options = ExtractOptions(
        video.parent, video.parent, (network,), device="cpu", precision="fp32", untrained=NETWORKS[network]
    )
    backbone = create_features(options)[0].backbone
    n_frames = sum(1 for _ in read_pictures(video))
    size = BATCH_SIZES["cpu"]
    images = np.random.default_rng(0).integers(0, 255, (size, 112, 112, 3), dtype=np.uint8)

    def follow() -> None:
        for _ in FaceFollower(video, detector):
            pass

    def compute() -> None:
        for _ in range(-(-n_frames // size)):
            with torch.inference_mode():
                backbone(backbone.preprocess(torch.from_numpy(images)))

    def both() -> None:
        thread = threading.Thread(target=follow)
        thread.start()
        compute()
        thread.join()

    return both


def speed(video: Path, network: str, root: Path, report: Report) -> None:
    """End to end against the parts, and against two commands."""
    places = Places(root)
    timings = in_turns(
        {
            "parts": parts_at_once(video, network),
            "straight": lambda: run(straight(video, network, places)),
            "crops": lambda: by_way_of_crops(video, network, places),
        },
        ROUNDS,
    )
    places.sweep()
    for name, timing in timings.items():
        report.medians[f"{network}, {name}, s"] = timing.median_s
    of_parts = median_ratio(timings["parts"].wall_s, timings["straight"].wall_s)
    of_crops = median_ratio(timings["crops"].wall_s, timings["straight"].wall_s)
    report.requirements.append(Requirement(f"{network}: speed of its parts", of_parts, 0.9))
    wanted = 1.3 if network == "fer" else 1.0
    report.requirements.append(Requirement(f"{network}: speed of prepare and extract", of_crops, wanted))


def agreement(video: Path, root: Path, report: Report) -> None:
    """How far features of JPEG crops are from those of the pictures themselves."""
    for network in NETWORKS:
        places = Places(root)
        options = straight(video, network, places)
        run(options)
        stores = [FeatureStore.open(options.store), FeatureStore.open(by_way_of_crops(video, network, places))]
        values = [
            np.concatenate([store.read(network, name).values for name in store.videos(network)]).astype(np.float64)
            for store in stores
        ]
        lengths = [np.linalg.norm(one, axis=1) for one in values]
        shown = (lengths[0] > 0) & (lengths[1] > 0)
        cosines = (values[0] * values[1]).sum(axis=1)[shown] / (lengths[0] * lengths[1])[shown]
        report.medians[f"{network}, mean cosine with JPEG crops"] = float(cosines.mean())
        report.medians[f"{network}, least cosine with JPEG crops"] = float(cosines.min())
        places.sweep()


def repeated(video: Path, file: Path, n_times: int) -> None:
    """A video that shows another one several times."""
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.height, stream.width = next(read_pictures(video)).image.shape[:2]
        for _ in range(n_times):
            for picture in read_pictures(video):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture.image, format="rgb24")))
        container.mux(stream.encode(None))


def peak_mib(data: Path, store: Path, backbone: str, faces: str) -> float:
    """The highest memory of a process that extracts a folder of videos."""
    command = [sys.executable, "-c", PEAK, str(data), str(store), backbone, faces]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.split()[-1]) / 1024


class MeanColour(torch.nn.Module):
    """A network that takes no time."""

    shape = (3,)
    image = ImageInput(112)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Means of (n, 3, 112, 112) images."""
        return images.mean((2, 3))


def long_video(file: Path, n_frames: int) -> None:
    """A video that repeats one group of pictures; only the first is encoded."""
    rng, group = np.random.default_rng(0), file.with_name("group.mkv")
    with av.open(str(group), "w") as container:
        stream = container.add_stream("libx264", rate=GROUP, options={"preset": "ultrafast", "g": str(GROUP)})
        stream.width, stream.height, stream.pix_fmt = *SMALL, "yuv420p"
        for _ in range(GROUP):
            image = rng.integers(0, 255, (*SMALL[::-1], 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(group)) as source, av.open(str(file), "w") as container:
        packets = [packet for packet in source.demux(video=0) if packet.size]
        stream = container.add_stream_from_template(source.streams.video[0])
        for second in range(n_frames // GROUP):
            for one in packets:
                packet = av.Packet(bytes(one))
                packet.pts = packet.dts = one.pts + second * 1000  # Matroska counts milliseconds
                packet.is_keyframe, packet.time_base, packet.stream = one.is_keyframe, one.time_base, stream
                container.mux(packet)
    group.unlink()


def hours(root: Path, report: Report) -> None:
    """The highest memory of processes with videos of a minute up to two hours."""
    peaks = []
    for name, n_frames in LENGTHS.items():
        folder = root / f"hours-{n_frames}"
        folder.mkdir()
        long_video(folder / "long.mkv", n_frames)
        network = "benchmarks.from_videos:MeanColour"
        peaks.append(peak_mib(folder, root / f"hours-{n_frames}.zarr", network, "whole"))
        report.medians[f"memory, {name}, MiB"] = peaks[-1]
    growth = max(peaks) - peaks[0]
    report.requirements.append(
        Requirement("memory grows from 1 minute to 2 hours by at most", growth, 100, "MiB", at_least=False)
    )


def processor_s(*arguments: object) -> float:
    """Processor seconds of a command in a new process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "abaw", *map(str, arguments)], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def commands(video: Path, root: Path, report: Report) -> None:
    """Processor time of one command against that of two."""
    places, device = Places(root), ("--device", "cpu")
    ones, twos = [], []
    for _ in range(ROUNDS):
        data, extract_fer = places.new(), ("extract", "--backbone", "fer", *device)
        ones.append(processor_s(*extract_fer, "--from", "videos", "--data", video.parent, "--store", places.new()))
        twos.append(processor_s("prepare", video, "--data", data, *device))
        twos[-1] += processor_s(*extract_fer, "--data", data, "--store", places.new())
    places.sweep()
    report.medians["fer, one command, processor s"] = float(np.median(ones))
    report.medians["fer, two commands, processor s"] = float(np.median(twos))
    ratio = float(np.median(np.divide(twos, ones)))
    report.requirements.append(Requirement("fer: processor time of prepare and extract, as commands", ratio, 1.3))


def memory(video: Path, root: Path, report: Report) -> None:
    """The highest memory of processes with more and longer videos."""
    peaks = []
    for number, (name, (n_videos, n_times)) in enumerate(MEMORY.items()):
        folder = root / f"memory-{number}"
        folder.mkdir()
        for one in range(n_videos):
            repeated(video, folder / f"v{one}.mp4", n_times)
        peaks.append(peak_mib(folder, root / f"store-{number}", "fer", "track"))
        report.medians[f"memory, {name}, MiB"] = peaks[-1]
    growth = max(peaks) - peaks[0]
    report.requirements.append(Requirement("memory grows by at most", growth, 100, "MiB", at_least=False))


def main() -> None:
    """Measure and print."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else VIDEO
    report = Report("from_videos", METHOD)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        video = root / "videos" / source.name
        video.parent.mkdir()
        video.write_bytes(source.read_bytes())
        for network in NETWORKS:
            speed(video, network, root, report)
        agreement(video, root, report)
        commands(video, root, report)
        memory(video, root, report)
        hours(root, report)
    report.publish()


if __name__ == "__main__":
    main()
