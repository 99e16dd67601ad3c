"""The broker's metrics in Prometheus' format. They are read when they are asked for, so messages cost nothing extra.

No label names a topic, a group or a client: the number of time series does not grow with them.
"""

from asyncio import all_tasks
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import Final

import msgspec
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from ... import __version__
from ...broker.broker import Broker
from ...errors import Busy, PlainmqError, Refused
from ...log.totals import Totals
from ...telemetry.histogram import Histogram
from ...telemetry.journal import JournalState
from ...telemetry.log import LOG_WRITER

_COUNTERS: Final[dict[str, tuple[str, Callable[[Broker], int]]]] = {
    "plainmq_messages_published_total": ("Messages accepted.", lambda broker: broker.published),
    "plainmq_messages_delivered_total": (
        "Deliveries of messages to subscribers and workers.",
        lambda broker: broker.counters.delivered,
    ),
    "plainmq_delivered_bytes_total": (
        "Bytes of these: as written to the socket, or of the bodies for a pull.",
        lambda broker: broker.counters.delivered_bytes,
    ),
    "plainmq_gaps_total": ("Gaps reported to subscribers.", lambda broker: broker.counters.gaps),
    "plainmq_gap_messages_total": (
        "Messages missing in these gaps, where their number is known.",
        lambda broker: broker.counters.missed,
    ),
    "plainmq_evictions_total": (
        "Subscriptions cut off because their socket accepted no bytes.",
        lambda broker: broker.counters.evicted,
    ),
    "plainmq_engine_failures_total": (
        "Times that the engine failed to store something.",
        lambda broker: broker.log.failures,
    ),
    "plainmq_log_records_dropped_total": (
        "Records that were not written, because writing to standard error was not possible.",
        lambda _broker: LOG_WRITER.dropped,
    ),
}

_SETTLED: Final[dict[str, tuple[str, Callable[[Totals], int]]]] = {
    "plainmq_messages_acked_total": ("Messages acked, in all groups.", lambda totals: totals.acked_total),
    "plainmq_messages_dead_total": ("Messages moved to dead-letter topics.", lambda totals: totals.dead_total),
}

_GAUGES: Final[dict[str, tuple[str, Callable[[Totals], int]]]] = {
    "plainmq_topics": ("Topics.", lambda totals: totals.topics),
    "plainmq_messages": ("Messages retained.", lambda totals: totals.messages),
    "plainmq_messages_bytes": ("Bytes of their bodies.", lambda totals: totals.bytes),
    "plainmq_log_bytes": ("Bytes that count against the limit of the whole log.", lambda totals: totals.cost),
    "plainmq_groups": ("Groups.", lambda totals: totals.groups),
    "plainmq_group_lag_messages": (
        "Messages not acked yet, summed over all groups.",
        lambda totals: totals.ready + totals.leased + totals.delayed,
    ),
    "plainmq_dead_messages": ("Dead messages that are not acked or deleted yet.", lambda totals: totals.dead),
    "plainmq_paused_topics": ("Topics that accept no publishes now.", lambda totals: totals.paused_topics),
    "plainmq_paused_groups": ("Groups that hand out nothing now.", lambda totals: totals.paused_groups),
    "plainmq_dead_waiting_messages": (
        "Dead messages that wait in their groups, because their dead-letter topic is full.",
        lambda totals: totals.postponed,
    ),
}

_JOURNAL_COUNTERS: Final[dict[str, tuple[str, Callable[[JournalState], int]]]] = {
    "plainmq_journal_forks_total": (
        "Times that the journal had lost entries that this server had carried out.",
        lambda journal: journal.forks,
    ),
    "plainmq_journal_resyncs_total": (
        "Times that this server has read the whole log again.",
        lambda journal: journal.resyncs,
    ),
    "plainmq_journal_digest_mismatches_total": (
        "Times that the state of this server was not that of the others.",
        lambda journal: journal.digest_mismatches,
    ),
    "plainmq_journal_healed_entries_total": (
        "Entries that this server has given back to a journal that had lost them.",
        lambda journal: journal.healed_entries,
    ),
}

_JOURNAL_GAUGES: Final[dict[str, tuple[str, Callable[[JournalState], float]]]] = {
    "plainmq_journal_connected": ("1 while the journal can be reached.", lambda journal: journal.connected),
    "plainmq_journal_nodes": ("Servers on this journal that are alive.", lambda journal: len(journal.nodes)),
    "plainmq_journal_entry": ("The number of the newest entry that was carried out.", lambda journal: journal.entry),
    "plainmq_journal_other_limits": (
        "Limits in force that are not as this server was started with.",
        lambda journal: len(journal.other_limits),
    ),
    "plainmq_journal_lag_entries": (
        "Entries that this server knows of and has not carried out.",
        lambda journal: journal.lag_entries,
    ),
    "plainmq_journal_lag_seconds": (
        "Time from sending an entry of this server until it was carried out here.",
        lambda journal: journal.lag_seconds,
    ),
}

_OTHER_CODES: Final = ("method_not_allowed", "internal_error")
_FILES: Final = ("certificate", "keys", "tokens")
_CLASSES: Final = ("1xx", "2xx", "3xx", "4xx", "5xx")
_STAGES: Final = ("ready", "leased", "delayed")
_PROCESS: Final = ProcessCollector(registry=None)

_JOURNAL_ALIKE: Final = ("nodes", "entry", "lag_entries", "lag_seconds", "other_limits")
GREATEST: Final = frozenset(
    [
        "plainmq_messages_published_total", *_SETTLED, "plainmq_operator_messages_total", *_GAUGES,
        "plainmq_group_messages", "plainmq_stale_files", *(f"plainmq_journal_{name}" for name in _JOURNAL_ALIKE),
    ]
)  # fmt: skip
"""What all workers of a server have alike: the greatest is told. What each does by itself is added up."""
LEAST: Final = frozenset(["process_start_time_seconds", "plainmq_journal_connected"])
"""Of these the least is told."""

SampleName = tuple[str, tuple[tuple[str, str], ...]]
"""With its labels."""


class Family(msgspec.Struct, frozen=True, array_like=True):
    """A metric with its samples. `kind`: its type."""

    name: str
    help: str
    kind: str
    samples: list[tuple[SampleName, float]]

    @classmethod
    def of(cls, metric: Metric) -> "Family":
        samples = [((sample.name, (*sample.labels.items(),)), float(sample.value)) for sample in metric.samples]
        return cls(metric.name, metric.documentation, metric.type, samples)

    @property
    def full_name(self) -> str:
        """As it is documented."""
        return f"{self.name}_total" if self.kind == "counter" else self.name

    def metric(self) -> Metric:
        metric = Metric(self.name, self.help, self.kind)
        for (name, labels), value in self.samples:
            metric.add_sample(name, dict(labels), value)
        return metric


def families_of(broker: Broker, totals: Totals | None) -> list[Family]:
    """The metrics of this process. `totals`: None if the engine cannot be asked; then its metrics are left out."""
    return [Family.of(metric) for collector in (_Numbers(broker, totals), _PROCESS) for metric in collector.collect()]


def process_families() -> list[Family]:
    """The metrics that every process has."""
    return [Family.of(metric) for metric in _PROCESS.collect()]


class _Families(Collector):
    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return (family.metric() for family in self._families)


def prometheus_text(families: list[Family]) -> bytes:
    """In Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Families(families))
    return generate_latest(registry)


class _Numbers(Collector):
    """The metrics of a broker, as they are now."""

    def __init__(self, broker: Broker, totals: Totals | None) -> None:
        self._broker = broker
        self._totals = totals

    def collect(self) -> Iterator[Metric]:
        broker = self._broker
        about = {"version": __version__, "epoch": broker.log.epoch, "durability": broker.log.durability}
        yield InfoMetricFamily("plainmq", "The server, and the epoch of its log.", about)
        for name, (text, count) in _COUNTERS.items():
            yield CounterMetricFamily(name, text, count(broker))
        yield _labelled(
            CounterMetricFamily("plainmq_refusals_total", "Requests and lines refused.", labels=["code"]),
            dict.fromkeys(sorted(_codes(Refused).union(_codes(Busy), _OTHER_CODES)), 0) | broker.counters.refusals,
        )
        yield _labelled(
            CounterMetricFamily("plainmq_http_requests_total", "Requests answered over HTTP.", labels=["status"]),
            _classes(broker.counters.answers),
        )
        yield _labelled(
            GaugeMetricFamily("plainmq_connections", "Connections open now.", labels=["door"]),
            broker.counters.connections,
        )
        yield _labelled(
            GaugeMetricFamily("plainmq_subscribers", "Subscribers, waiting readers and workers now.", labels=["kind"]),
            broker.subscribers(),
        )
        yield _labelled(
            GaugeMetricFamily(
                "plainmq_stale_files",
                "1 while the newest state of a file cannot be loaded, or the file is missing.",
                labels=["file"],
            ),
            dict.fromkeys(_FILES, 0) | broker.counters.stale,
        )
        yield GaugeMetricFamily("plainmq_workers", "Processes that serve.", 1)
        text = "Workers that have ended and been replaced."
        yield CounterMetricFamily("plainmq_worker_restarts_total", text, 0)
        yield GaugeMetricFamily("plainmq_tasks", "Tasks on the event loop.", len(all_tasks()))
        yield _histogram("plainmq_event_loop_delay_seconds", "Delay of a timer of one second.", broker.loop_lag.delays)
        yield _histogram("plainmq_commit_seconds", "Duration of a transaction on the disk.", broker.log.commits)
        if self._totals is not None:
            yield from _of_the_log(self._totals)
        if (journal := broker.log.journal) is not None:
            yield from _of_the_journal(journal)


def _of_the_log(totals: Totals) -> Iterator[Metric]:
    for name, (text, value) in _SETTLED.items():
        yield CounterMetricFamily(name, text, value(totals))
    text = "Messages that operators redrove, released, skipped, purged or cancelled."
    yield _labelled(
        CounterMetricFamily("plainmq_operator_messages_total", text, labels=["operation"]), totals.operations
    )
    for name, (text, value) in _GAUGES.items():
        yield GaugeMetricFamily(name, text, value(totals))
    text = "Messages in each stage, summed over all groups."
    yield _labelled(
        GaugeMetricFamily("plainmq_group_messages", text, labels=["stage"]),
        {stage: getattr(totals, stage) for stage in _STAGES},
    )


def _of_the_journal(journal: JournalState) -> Iterator[Metric]:
    about = {"node": journal.node, "level": str(journal.level)}
    yield InfoMetricFamily("plainmq_journal", "The server's name for the others, and the level in use.", about)
    yield _histogram(
        "plainmq_journal_append_seconds",
        "Time from sending an entry until the journal has confirmed it.",
        journal.appends,
    )
    for name, (text, count) in _JOURNAL_COUNTERS.items():
        yield CounterMetricFamily(name, text, count(journal))
    for name, (text, value) in _JOURNAL_GAUGES.items():
        yield GaugeMetricFamily(name, text, value(journal))


def _labelled(family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[str, int]) -> Metric:
    for label, value in values.items():
        family.add_metric([label], value)
    return family


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    buckets = [(_bound(bound), count) for bound, count in histogram.buckets()]
    return HistogramMetricFamily(name, text, buckets, histogram.sum)


def _classes(answers: Mapping[int, int]) -> dict[str, int]:
    """Responses by the first digit of their status."""
    found = Counter(dict.fromkeys(_CLASSES, 0))
    for status, count in answers.items():
        found[f"{status // 100}xx"] += count
    return dict(found)


def _bound(seconds: float) -> str:
    return "+Inf" if seconds == inf else f"{seconds:g}"


def _codes(kind: type[PlainmqError]) -> set[str]:
    """The codes of this class of error and of its subclasses."""
    return {kind.code}.union(*map(_codes, kind.__subclasses__()))
