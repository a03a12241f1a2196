"""The extraction of a dataset: planned here, run in this process or by the workers of a cluster."""

from typing import TYPE_CHECKING

from abaw.core.parts import parse_part
from abaw.core.progress import Reporter, Silent, Summary
from abaw.extract.label_writer import describe_labels
from abaw.extract.request import ExtractOptions
from abaw.extract.stage import Stage
from abaw.store.claims import claimed

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
    stage = Stage.open(options, summary.failed_backbones, _on_gpu(options, cluster))
    for feature, why in summary.failed_backbones.items():
        reporter.warn(f"{feature} is left out: {why}")
    with claimed(stage.store, [feature.name for feature in stage.features], options.part):
        plan = stage.plan(summary, reporter)
        for note in stage.notes:
            reporter.warn(note)
        if not options.part or parse_part(options.part)[0] == 1:  # labels belong to the first part
            reporter.warn(describe_labels(stage.dataset))
        reporter.start("extract", plan.n_frames, "frames")
        _run(stage, plan, cluster, summary, reporter)
    reporter.finish()
    return summary


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
