"""The extraction of a dataset: planned here, run in this process or by the workers of a cluster."""

from contextlib import ExitStack
from time import monotonic
from typing import TYPE_CHECKING

from abaw.core.parts import parse_part
from abaw.core.progress import Reporter, Silent, Summary
from abaw.datasets.named_people import people_notes
from abaw.extract.label_writer import describe_labels
from abaw.extract.request import ExtractOptions
from abaw.extract.stage import Stage
from abaw.extract.waits import report_waits

if TYPE_CHECKING:
    from abaw.extract.cluster.cluster import ClusterOptions
    from abaw.extract.plan import ExtractionPlan


def extract(
    options: ExtractOptions, reporter: Reporter | None = None, cluster: "ClusterOptions | None" = None
) -> Summary:
    """Run backbones over all crops and sounds of a dataset; put their features, and all labels, into the store.

    Complete videos are skipped, and interrupted ones are written again. Errors of single videos, frames or backbones
    go into the summary.

    Args:
        cluster: run on the workers of a dask cluster; this process plans and follows them.

    Raises:
        AbawError: nothing could be started: no data, unknown backbones, no weights, another fingerprint, or another
            extraction of the same features is running.
    """
    reporter = reporter or Silent()
    summary = Summary()
    with ExitStack() as claims:
        on_gpu = _on_gpu(options, cluster)
        stage = Stage.open(options, summary.failed_backbones, on_gpu, here=cluster is None, claims=claims)
        for feature, why in summary.failed_backbones.items():
            reporter.warn(f"{feature} is left out: {why}")
        plan = stage.plan(summary, reporter)
        for note in stage.notes:
            reporter.warn(note)
        if not options.part or parse_part(options.part)[0] == 1:  # labels belong to the first part
            reporter.warn(describe_labels(stage.dataset))
            for note in people_notes(stage.dataset):
                reporter.warn(note)
        plan, rest = plan.split(options.limit) if options.limit else (plan, None)
        reporter.start("extract", plan.n_frames, "frames")
        begin = monotonic()
        _run(stage, plan, cluster, summary, reporter)
        seconds = monotonic() - begin
    reporter.finish()
    report_waits(summary.waited_s, reporter)
    if rest is not None and not summary.stopped:
        reporter.warn(_describe_rate(plan.without(summary.failed).n_frames, seconds, rest))
    return summary


def _describe_rate(n_frames: int, seconds: float, rest: "ExtractionPlan") -> str:
    """How fast frames were extracted, and how long the rest takes at that rate."""
    if not rest.n_videos:
        return "Nothing is left to extract."
    left = f"{rest.n_videos:,} videos ({rest.n_frames:,} frames) are left"
    if not n_frames:
        return f"No video was extracted, so no rate was measured; {left}."
    rest_s = rest.n_frames / n_frames * seconds
    return f"{n_frames / seconds:,.1f} frames/s; {left}, which takes {_duration(rest_s)} at that rate."


def _duration(seconds: float) -> str:
    for unit, unit_s in (("hours", 3600), ("minutes", 60)):
        if seconds >= unit_s:
            return f"{seconds / unit_s:,.1f} {unit}"
    return f"{seconds:.1f} seconds"


def _on_gpu(options: ExtractOptions, cluster: "ClusterOptions | None") -> bool | None:
    """Whether the workers have GPUs; None where this process decides."""
    if cluster is None or options.device != "auto":
        return None
    from abaw.extract.cluster.cluster import workers_have_gpus  # dask: only for clusters

    return workers_have_gpus(cluster)


def _run(
    stage: Stage, plan: "ExtractionPlan", cluster: "ClusterOptions | None", summary: Summary, reporter: Reporter
) -> None:
    if cluster is None:
        stage.run(plan.groups, summary, reporter.advance)
    elif plan.groups:
        from abaw.extract.cluster.driver import run_on_cluster

        run_on_cluster(stage, plan, cluster, summary, reporter)
