"""Options of an extraction, and the networks and features that they ask for."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from abaw.backbones.backbone import create_backbone
from abaw.backbones.backbone_names import parse_backbone, split_weights
from abaw.backbones.registry import get_spec
from abaw.backbones.spec import BackboneSpec
from abaw.backbones.vision.views import HFLIP, parse_view
from abaw.core.devices import pick_device
from abaw.core.errors import CheckpointError, UsageError
from abaw.core.files import Place, is_url
from abaw.core.names import name_of_view
from abaw.core.records import FLOAT32
from abaw.core.task_files import SUFFIX
from abaw.core.tasks import get_task
from abaw.datasets.clips import with_clips_as
from abaw.datasets.dataset import Dataset
from abaw.datasets.layouts import open_dataset
from abaw.datasets.named_people import FOLDERS, with_people
from abaw.extract.bfloat16 import has_bfloat16, try_bfloat16
from abaw.extract.faces.detector import DEFAULT_DETECTOR
from abaw.extract.faces.followed_videos import FacesFrom, open_videos
from abaw.extract.feature import Feature
from abaw.extract.precision import AUTO, BFLOAT16, Precisions, stored_precisions

NORMALISED = "normalised="
BATCH_SIZES = {"cuda": 256, "cpu": 32}


@dataclass(frozen=True)
class ExtractOptions:
    """What to extract, from where to where.

    Attributes:
        data: folder of a dataset, see `abaw.datasets.layouts`.
        store: the store to fill.
        backbones: `[NAME=]BACKBONE[:WEIGHTS]` each.
        views: views of the frames in addition to the plain one: "hflip", "mask0.75".
        n_views: number of differently masked views of each frame.
        device: "auto" takes a GPU if there is one.
        precision: "auto" is that of the feature in the store; for new features bf16 on a GPU, and on processors that
            have it where a trial shows that it pays, see `abaw.extract.bfloat16`; fp32 elsewhere.
        batch_size: frames in a batch; 0 takes 256 on a GPU and 32 elsewhere.
        fps: frame rate of videos without a video file.
        untrained: use random weights.
        part: empty, or `I/N`: only part I of N parts with about the same number of frames.
        limit: number of videos after which to stop, of those that are incomplete; 0 for all.
        n_frames: rows of each clip, and which of its tensors are read; 0 takes the layout's.
        tensors: empty, or `normalised=NETWORK`: how tensors of pictures were normalised, see `read_image_tensor`.
        compile: compile the networks, which takes a minute or so and pays off in long runs.
        decoder: of pictures: "cpu", or "gpu" for torchcodec on the GPU; "auto" is that of the feature in the store,
            and "cpu" for new ones.
        faces: empty for crops; for video files where their faces come from, see `FacesFrom.where`.
        detector: of the faces in video files, see `abaw.extract.faces.detector.create_detector`; empty for the default.
        tasks: task files whose labels are read, too.
        people: who is in the videos, see `abaw.datasets.named_people.with_people`; empty for what the data say.
        transcripts: what is said in the videos, see `abaw.datasets.transcripts.find_transcripts`; empty for the folder
            of the dataset.
        identity: what people in video files are told apart by, see `abaw.extract.faces.face_identity.create_identity`.
        keep_crops: data folder where the crops of faces that are followed are kept, as `abaw prepare` writes them; None
            keeps none.
    """

    data: Path
    store: Place
    backbones: tuple[str, ...]
    views: tuple[str, ...] = ()
    n_views: int = 1
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    batch_size: int = 0
    fps: float | None = None
    untrained: bool = False
    part: str = ""
    limit: int = 0
    n_frames: int = 0
    tensors: str = ""
    compile: bool = False
    decoder: Literal["auto", "cpu", "gpu"] = "auto"
    faces: str = ""
    detector: str = ""
    tasks: tuple[str, ...] = ()
    people: str = ""
    transcripts: str = ""
    identity: str = ""
    keep_crops: Path | None = None

    @property
    def follows(self) -> bool:
        """True if faces are followed through video files."""
        return bool(self.faces)

    def open_dataset(self) -> Dataset:
        """The dataset; no image is opened.

        Raises:
            DataError: it is not there, or has no known layout.
        """
        for task in self.tasks:
            get_task(task)  # known in this process from now on
        if self.faces:
            dataset = open_videos(self.data, self.faces_from(), self.fps)
        else:
            dataset = open_dataset(self.data, self.fps)
            dataset = with_clips_as(dataset, self.n_frames, self.tensors.removeprefix(NORMALISED))
        return with_people(dataset, self.people) if self.people else dataset

    def faces_from(self) -> FacesFrom:
        """Where the faces of video files come from."""
        detector, keep = self.detector or DEFAULT_DETECTOR, self.keep_crops
        return FacesFrom(self.faces, detector, self.device, self.identity, keep)

    def absolute(self) -> "ExtractOptions":
        """The same options with absolute paths."""
        store = self.store if is_url(self.store) else Path(self.store).absolute()
        parts = [split_weights(text) for text in self.backbones]
        backbones = tuple(
            f"{name}:{Path(weights).expanduser().absolute()}" if weights else name for name, weights in parts
        )
        faces = self.faces_from().absolute()
        tasks = tuple(str(Path(task).absolute()) if task.endswith(SUFFIX) else task for task in self.tasks)
        people = str(Path(self.people).expanduser().absolute()) if self.people not in ("", FOLDERS) else self.people
        table, mark, column = self.transcripts.partition("#")
        transcripts = f"{Path(table).expanduser().absolute()}{mark}{column}" if table else ""
        places = {"data": Path(self.data).absolute(), "store": store, "backbones": backbones, "people": people}
        keep = self.keep_crops and Path(self.keep_crops).absolute()
        follows = {"faces": faces.where if self.faces else "", "identity": faces.identity, "keep_crops": keep}
        return replace(self, tasks=tasks, transcripts=transcripts, **places, **follows)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Request:
    """A requested backbone: the name of its feature, its spec, and a weights file; None for the default one."""

    feature: str
    spec: BackboneSpec
    weights: Path | None

    @classmethod
    def parse(cls, text: str) -> "Request":
        """Parse `[NAME=]BACKBONE[:WEIGHTS]`, see `parse_backbone`."""
        feature, backbone, weights = parse_backbone(text)
        return cls(feature, get_spec(backbone), Path(weights).expanduser() if weights else None)


def parse_names(options: ExtractOptions) -> tuple[list[Request], list[str]]:
    """The backbones and the views that the options ask for; loads no torch.

    Raises:
        UsageError: unknown names.
    """
    requests = [Request.parse(text) for text in options.backbones]
    views = [name for view in options.views for name in parse_view(view, _n_views(view, options.n_views))]
    return requests, list(dict.fromkeys(views))


def wants_text(options: ExtractOptions) -> bool:
    """True if transcripts are needed.

    Raises:
        UsageError: unknown names, or transcripts for other backbones.
    """
    has_text = any(request.spec.modality == "text" for request in parse_names(options)[0])
    if options.transcripts and not has_text:
        raise UsageError(
            "--transcripts is for backbones of text. Add --backbone text:FOLDER or --backbone speech-timing."
        )
    return has_text


def check_compiler() -> None:
    """Check that networks can be compiled, as far as that can be done without loading torch.

    Raises:
        UsageError: there is no C++ compiler.
    """
    names = [os.environ.get("CXX", ""), "g++", "clang++"]
    if not any(shutil.which(name) for name in names if name):
        raise UsageError("--compile needs a C++ compiler, and none was found. Install g++, or leave out --compile.")


def requested_features(options: ExtractOptions) -> dict[str, Request]:
    """The backbone of each feature that the options ask for, by its name; views included.

    Raises:
        UsageError: unknown names, or two features of one name.
    """
    requests, views = parse_names(options)
    named = [
        (name_of_view(request.feature, view), request) for request in requests for view in _views_of(request, views)
    ]
    _check_unique([name for name, _ in named])
    return dict(named)


def create_features(
    options: ExtractOptions,
    failed: dict[str, str] | None = None,
    on_gpu: bool | None = None,
    here: bool = False,
) -> list[Feature]:
    """Load the networks that the options ask for, one per family and weights file.

    Args:
        failed: receives, by feature, why weights could not be loaded; the other features are created.
        on_gpu: whether new features will be computed on a GPU; None to decide by the device of this process.
        here: whether this process computes the features; then a trial may choose the precision of new ones.

    Raises:
        UsageError: unknown names, or options that cannot be combined.
        CheckpointError: weights could not be loaded, and `failed` is missing or no feature is left.
    """
    requests, views = parse_names(options)
    device = pick_device(options.device)
    on_gpu = device.type == "cuda" if on_gpu is None else on_gpu
    bases = [request.feature for request in requests]
    stored = stored_precisions(options.store, bases) if options.precision == AUTO else {}
    precisions = Precisions(options.precision, BFLOAT16 if on_gpu else FLOAT32, stored)
    tries = here and device.type == "cpu" and not on_gpu and has_bfloat16()
    features: list[Feature] = []
    groups, errors = _by_pass(requests), []
    for group in groups:
        try:
            features += _create_group(group, views, precisions, str(device), options, tries)
        except CheckpointError as error:
            if failed is None:
                raise
            names = list(dict.fromkeys(request.spec.name for request in group))
            if len(names) > 1:  # one of them may be the cause, such as a layer that the network does not have
                groups += [[request for request in group if request.spec.name == name] for name in names]
                continue
            failed |= {request.feature: str(error) for request in group}
            errors.append(error)
    if errors and not features:
        raise errors[0]
    _check_unique([feature.name for feature in features])
    return features


def _create_group(
    group: Sequence[Request],
    views: Sequence[str],
    precisions: Precisions,
    device: str,
    options: ExtractOptions,
    tries: bool,
) -> list[Feature]:
    """The features of requests that one pass of one network serves.

    Args:
        tries: whether a trial chooses the precision of new features.
    """
    names = list(dict.fromkeys(request.spec.name for request in group))
    requested = [
        (request, view, name_of_view(request.feature, view)) for request in group for view in _views_of(request, views)
    ]
    to_try = {name for _, _, name in requested if tries and precisions.is_open(name)}
    # the finest first: the coarser ones are derived from it
    in_use = sorted({precisions.of(name) for _, _, name in requested}, key=[FLOAT32, BFLOAT16].index)
    backbone = create_backbone(names, group[0].weights, device, precision=in_use[0], untrained=options.untrained)
    specs, trial = {spec.name: spec for spec in backbone.specs}, None
    if to_try and not backbone.is_float32_only and backbone.spec.weights != "none":
        trial = try_bfloat16(backbone)
    chosen = {
        name: BFLOAT16 if trial is not None and trial.is_won and name in to_try else precisions.of(name)
        for _, _, name in requested
    }
    backbones = {precision: backbone.in_precision(precision, options.compile) for precision in set(chosen.values())}
    return [
        Feature(
            *(name, backbones[chosen[name]], specs[request.spec.name], view),
            why_precision=str(trial) if trial is not None and name in to_try else "",
        )
        for request, view, name in requested
    ]


def _by_pass(requests: Sequence[Request]) -> list[list[Request]]:
    """Groups of requests that one pass of one network serves."""
    groups: dict[tuple[object, ...], list[Request]] = {}
    for request in requests:
        spec = request.spec
        groups.setdefault((spec.family, spec.options, spec.image, request.weights), []).append(request)
    return list(groups.values())


def _check_unique(names: Sequence[str]) -> None:
    duplicate = next((name for name in names if names.count(name) > 1), None)
    if duplicate:
        raise UsageError(f"Two backbones would write feature {duplicate!r}. Name one of them: NEWNAME=BACKBONE.")


def _views_of(request: Request, views: Sequence[str]) -> tuple[str, ...]:
    """The plain view and the requested ones; sound has only the plain one."""
    return ("", *views) if request.spec.modality == "vision" else ("",)


def _n_views(view: str, n_views: int) -> int:
    """Number of views of this kind: there is only one mirror image."""
    return 1 if view == HFLIP else n_views
