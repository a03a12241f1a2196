"""The labels of a dataset: counting them, writing them into the store, and finding stale ones there."""

from collections import Counter
from itertools import chain
from pathlib import Path
from shlex import quote

from abaw.core.errors import AbawError, some_of
from abaw.core.progress import Summary
from abaw.core.read_ahead import map_ahead
from abaw.datasets.dataset import Dataset, Labels
from abaw.datasets.doctor import conflicts
from abaw.datasets.mtl import doubles_of
from abaw.store import FeatureStore

MOST_NAMED = 5  # videos in one warning


def write_labels(dataset: Dataset, store: FeatureStore, summary: Summary) -> None:
    """Write all labels that can be read into the store; errors in the others go into the summary."""
    summary.label_errors += [remark.sentence for remark in dataset.remarks if remark.is_error]
    by_video: dict[str, list[Labels]] = {}
    for label in dataset.labels:
        by_video.setdefault(label.video, []).append(label)

    def write(labels: list[Labels]) -> list[str]:
        errors = list(conflicts(labels))
        times = Counter(label.task for label in labels)
        for label in labels:
            if times[label.task] > 1:  # nobody can tell which ones are right
                continue
            try:
                person = dataset.person_of(label)
                store.write_labels(label.task, label.video, label.split, label.read(), doubles_of(label), person)
            except AbawError as error:
                errors.append(str(error))
        return errors

    summary.label_errors += chain.from_iterable(map_ahead(write, by_video.values(), store.n_readers))


def describe_labels(dataset: Dataset) -> str:
    """A sentence with the number of label files by task and split; without any, what that means."""
    files: dict[tuple[str, str], set[Path]] = {}
    videos: dict[tuple[str, str], set[str]] = {}
    for label in dataset.labels:
        files.setdefault((label.task, label.split), set()).add(label.path)
        videos.setdefault((label.task, label.split), set()).add(label.video)
    if not files:
        return (
            f"No label files were found in {dataset.root}: features are made, but nothing can be trained on them yet. "
            f"`abaw doctor --data {quote(str(dataset.root))}` lists what is not read, and why."
        )
    counts = []
    for (task, split), paths in files.items():
        n_videos = len(videos[task, split])
        of_videos = "" if n_videos == len(paths) else f" of {n_videos} videos"
        counts.append(f"{task} {split} {len(paths)}{of_videos}")
    persons = {label.video: dataset.person_of(label) for label in dataset.labels}
    people = set(persons.values())
    named = f" They name {len(people):,} people." if "" not in people and len(people) > 1 else ""
    return f"Label files in {dataset.root}: {', '.join(counts)}.{named}"


def stale_labels(dataset: Dataset, store: FeatureStore) -> list[str]:
    """A warning about labels in the store for videos that the data does not label, for tasks that it does have.

    They stay behind when videos are renamed or removed. They may also come from other data in the same store.
    """
    labelled: dict[str, set[str]] = {}
    for label in dataset.labels:
        labelled.setdefault(label.task, set()).add(label.video)
    stale, packed = [], []
    for task, videos in sorted(labelled.items()):
        names = [name for name in store.label_names(task) if name not in videos]
        if names:
            in_packs = store.packs.look(f"labels/{task}")
            packed += [f"labels/{task}/{name}" for name in names if name in in_packs]
            count = "1 video" if len(names) == 1 else f"{len(names)} videos"
            stale.append(f"{task} of {count} ({some_of(names, MOST_NAMED)})")
    if not stale:
        return []
    delete = f"delete {store.path}/labels/<task>/<video> if they should not count."
    if packed:
        drop = f"from abaw.store import FeatureStore; FeatureStore.create({store.path!r}).drop({packed[0]!r})"
        delete = f"if they should not count, drop each as the first: python -c {quote(drop)}"
    return [f"The store has labels that are not in {dataset.root}: {', '.join(stale)}. Training uses them: {delete}"]
