"""The plot of the samples."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib import pyplot

from tests.soak.samples import Row

mpl.use("Agg")

PANELS = {
    "rss_mib": "resident memory, MiB",
    "fds": "open files",
    "tasks": "tasks",
    "subscribers": "subscribers",
}


def plot(rows: Sequence[Row], path: Path, title: str, warm_up: float) -> None:
    """`warm_up` is in minutes: the part before it is shaded."""
    figure, axes = pyplot.subplots(len(PANELS), sharex=True, figsize=(7, 7), layout="constrained")
    minutes = [row["seconds"] / 60 for row in rows]
    for axis, (column, label) in zip(axes, PANELS.items(), strict=True):
        axis.plot(minutes, [row[column] for row in rows], linewidth=0.8)
        axis.set_ylim(bottom=0)
        axis.set_ylabel(label, fontsize=8)
        axis.axvspan(0, min(warm_up, minutes[-1]), alpha=0.1)
        axis.grid(alpha=0.3)
    axes[0].set_title(title)
    axes[-1].set_xlabel("minutes")
    figure.savefig(path, dpi=80)
    pyplot.close(figure)
