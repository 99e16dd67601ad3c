"""The plots of a comparison: the figure of each row and server, and the latencies of deliveries."""

from pathlib import Path
from typing import Any

from benchmarks.report import Report

OURS, THEIRS, MEDIAN = "#0b6e4f", "#8d99ae", "#2b2d42"
PERCENTILES = ("p50", "p90", "p99", "p999", "max")
COLUMNS = 3


def draw(report: Report, folder: Path) -> list[Path]:
    """Draw the plots, and return their paths. Raises ImportError if matplotlib is not installed."""
    import matplotlib as mpl  # noqa: PLC0415  (the extra `bench`)

    mpl.use("Agg")
    return [_costs(report, folder / "costs.png"), _latencies(report, folder / "latencies.png")]


def _costs(report: Report, path: Path) -> Path:
    figure, axes = _grid(len(report.outcomes))
    for axis, (_, row, entries) in zip(axes, report.outcomes, strict=False):
        best = [entry.best(row) for entry in entries]
        names = [entry.case.name for entry in entries]
        axis.barh(names, best, color=[OURS, *[THEIRS] * (len(entries) - 1)])
        axis.plot([entry.median(row) for entry in entries], names, "|", color=MEDIAN, markersize=12, label="median")
        axis.bar_label(axis.containers[0], fmt=" %.3g", fontsize=7)
        axis.invert_yaxis()
        _title(axis, row.title, row.unit)
    axes[0].legend(fontsize=7)
    return _save(figure, path)


def _latencies(report: Report, path: Path) -> Path:
    published = [outcome for outcome in report.outcomes if outcome.entries[0].results[0].published]
    figure, axes = _grid(len(published))
    for axis, (_, row, entries) in zip(axes, published, strict=False):
        for entry in entries:
            colour = {"color": OURS, "linewidth": 2.5} if entry is entries[0] else {}
            axis.plot(PERCENTILES, [entry.latency(name) for name in PERCENTILES], ".-", label=entry.case.name, **colour)
        axis.set_yscale("log")
        axis.legend(fontsize=6)
        _title(axis, row.title, "")
        axis.set_ylabel("ms", fontsize=7)
    return _save(figure, path)


def _grid(count: int) -> tuple[Any, list[Any]]:
    from matplotlib import pyplot  # noqa: PLC0415

    rows = -(-max(count, 1) // COLUMNS)
    figure, axes = pyplot.subplots(rows, COLUMNS, figsize=(15, 3 * rows), squeeze=False)
    for unused in axes.flat[count:]:
        unused.axis("off")
    return figure, [*axes.flat]


def _title(axis: Any, title: str, unit: str) -> None:
    axis.set_title(title, fontsize=8)
    axis.set_xlabel(unit, fontsize=7)
    axis.tick_params(labelsize=7)


def _save(figure: Any, path: Path) -> Path:
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    return path
