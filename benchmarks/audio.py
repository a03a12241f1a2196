"""Audio encoders: openSMILE's against the package alone, VGGish against its bare forward pass.

python -m benchmarks.audio
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import opensmile
import torch
from scipy.io import wavfile

from abaw.backbones.audio.smile import SETS
from abaw.backbones.backbone import create_backbone, describe
from abaw.datasets.clips import Clip
from abaw.datasets.video_files import People
from abaw.extract.audio_runner import AudioRunner, AudioSource
from abaw.extract.feature import Feature
from abaw.media.waveform import RATE_HZ
from abaw.store import FeatureStore
from benchmarks.extraction import Places
from benchmarks.measure import Report, Requirement, in_turns, median_ratio

N_FILES, FILE_S = 4, 60
N_VGGISH_FILES = 2
FPS = 30.0
ROUNDS = 5
METHOD = [
    f"{N_FILES} files of {FILE_S} s of 16 kHz mono, in the page cache; rows at {FPS:g} fps.",
    "`abaw extract` is its AudioRunner from files into a new store, with one thread per core.",
    "openSMILE alone is the package's `process_signal` on samples at hand, as many at once as there are cores; for compare "
    "both of its levels, each in a pass of its own as the package offers them, and the same in a single pass.",
    f"VGGish runs untrained on {N_VGGISH_FILES} files; its bare forward on as many ready patches of the same batch size.",
]


def write_sounds(root: Path) -> list[AudioSource]:
    """Files of noise under a syllable-like envelope."""
    sources = []
    for number in range(N_FILES):
        rng = np.random.default_rng(number)
        times = np.arange(FILE_S * RATE_HZ) / RATE_HZ
        voice = 0.2 * np.sin(4 * times) ** 2 * (np.sin(900 * times) + 0.3 * rng.standard_normal(len(times)))
        file = root / f"sound-{number}.wav"
        wavfile.write(file, RATE_HZ, (voice * 32767).astype(np.int16))
        clip = Clip(file.stem, file, None, n_frames=round(FILE_S * FPS))
        sources.append(AudioSource(clip.open(FPS, People(root)), file, "digest"))
    return sources


def extraction_of(feature: Feature, sources: Sequence[AudioSource], places: Places) -> Callable[[], None]:
    """An action for `in_turns`."""

    def extract() -> None:
        store = FeatureStore.create(places.new())
        store.add_feature(feature.name, **describe(feature.backbone, feature.spec, feature.view))
        summary = AudioRunner(store, [feature]).run(sources)
        assert summary.ok and len(summary.done) == len(sources), summary

    return extract


def package_alone(name: str, levels: Sequence[str], sounds: Sequence[np.ndarray]) -> Callable[[], None]:
    """An action for `in_turns`: openSMILE without anything around it."""
    machines = [opensmile.Smile(SETS[name], level) for level in levels]

    def one(samples: np.ndarray) -> None:
        for machine in machines:
            machine.process_signal(samples, RATE_HZ)

    def run() -> None:
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            list(threads.map(one, sounds))

    return run


def against_package(sources: Sequence[AudioSource], places: Places, report: Report) -> None:
    """Low-level descriptors: real-time factors, and the share of openSMILE's own speed."""
    sounds = [wavfile.read(source.sound)[1].astype(np.float32) / 32768 for source in sources if source.sound]
    for name, levels in (("compare", ("lld", "lld_de")), ("egemaps", ("lld",))):
        backbone = create_backbone(name)
        actions = {
            "extract": extraction_of(Feature(name, backbone, backbone.spec), sources, places),
            "single": package_alone(name, (";".join(levels),), sounds),
        }
        if len(levels) > 1:
            actions["separate"] = package_alone(name, levels, sounds)
        timings = in_turns(actions, ROUNDS)
        places.sweep()
        duration_s = N_FILES * FILE_S
        share = median_ratio(timings["single"].wall_s, timings["extract"].wall_s)
        report.requirements.append(
            Requirement(f"extract {name}, real time", duration_s / timings["extract"].median_s, 25)
        )
        report.requirements.append(Requirement(f"extract {name} against openSMILE alone, a single pass", share, 0.9))
        if "separate" in timings:
            ratio = median_ratio(timings["separate"].wall_s, timings["extract"].wall_s)
            report.ratios[f"extract {name} against openSMILE alone, a pass for each level"] = ratio
        for kind, timing in timings.items():
            report.medians[f"{name}, {kind}, x real time"] = duration_s / timing.median_s


def against_forward(sources: Sequence[AudioSource], places: Places, report: Report) -> None:
    """VGGish: from files into the store, and the network alone."""
    backbone = create_backbone("vggish", untrained=True)
    used = sources[:N_VGGISH_FILES]
    parts = []
    for source in used:
        assert source.sound is not None
        samples = wavfile.read(source.sound)[1].astype(np.float32) / 32768
        parts.append(backbone.preprocess(torch.from_numpy(samples)))

    def forward() -> None:
        for patches in parts:
            for batch in patches.split(16):
                backbone(batch)

    actions = {
        "bare": forward,
        "extract": extraction_of(Feature("vggish", backbone, backbone.spec), used, places),
    }
    timings = in_turns(actions, ROUNDS)
    places.sweep()
    ratio = median_ratio(timings["bare"].wall_s, timings["extract"].wall_s)
    report.requirements.append(Requirement("extract vggish against its bare forward", ratio, 0.9))
    for kind, timing in timings.items():
        report.medians[f"vggish, {kind}, x real time"] = N_VGGISH_FILES * FILE_S / timing.median_s


def main() -> None:
    """Measure and print."""
    report = Report("audio", METHOD)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sources, places = write_sounds(root), Places(root)
        against_package(sources, places, report)
        against_forward(sources, places, report)
    report.publish()


if __name__ == "__main__":
    main()
