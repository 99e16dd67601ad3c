"""The metrics of all workers as those of one server, for Prometheus.

| what it measures                    | merged                                                  |
|-------------------------------------|---------------------------------------------------------|
| what a worker does or has itself    | the sum; counters of workers that have ended included   |
| what all workers have alike         | the greatest                                            |
| the same, a counter                 | the greatest, where each new worker begins at what was told before |
| when it started, whether it can     | the least                                               |

So no counter runs backward when a worker is replaced. What a worker that was killed had counted since it was asked last
is missing.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Final

import msgspec

from ...web.api.prometheus import GREATEST, LEAST, Family, SampleName, process_families

RESTARTS: Final = "plainmq_worker_restarts"

Samples = dict[SampleName, float]


class MergedMetrics:
    def __init__(self) -> None:
        self._last: dict[Hashable, dict[str, Family]] = {}  # by worker and name
        self._ended: Counter[SampleName] = Counter()
        self._told: Samples = {}  # of counters that all workers have alike
        self._starts: dict[SampleName, dict[Hashable, float]] = {}  # what was told when a worker began to count
        self._restarts = 0

    def answered(self, worker: Hashable, data: bytes) -> None:
        families = msgspec.msgpack.decode(data, type=list[Family])
        self._last[worker] = {family.name: family for family in families}

    def ended(self, worker: Hashable) -> None:
        """Another one takes its place."""
        self._restarts += 1
        for starts in self._starts.values():
            starts.pop(worker, None)
        for family in self._last.pop(worker, {}).values():
            if family.kind in {"counter", "histogram"} and family.full_name not in GREATEST:
                self._ended.update(dict(family.samples))

    def merged(self) -> bytes:
        own = {family.name: family for family in [*process_families(), _restarts(self._restarts)]}
        parts = [*self._last.values(), own]
        shapes = {name: family for part in reversed(parts) for name, family in part.items()}
        names = dict.fromkeys(name for part in parts for name in part)
        return msgspec.msgpack.encode([self._family(shapes[name], parts) for name in names])

    def _family(self, shape: Family, parts: Iterable[Mapping[str, Family]]) -> Family:
        samples = [dict(part[shape.name].samples) for part in parts if shape.name in part]
        if shape.full_name in GREATEST or shape.kind == "info":
            merged = self._alike(shape.name) if shape.kind == "counter" else _folded(samples, max)
        elif shape.name in LEAST:
            merged = _folded(samples, min)
        elif shape.kind in {"counter", "histogram"}:
            merged = _folded([*samples, {name: self._ended[name] for name in samples[0]}], _plus)
        else:
            merged = _folded(samples, _plus)
        return msgspec.structs.replace(shape, samples=[*merged.items()])

    def _alike(self, name: str) -> Samples:
        parts = {worker: dict(part[name].samples) for worker, part in self._last.items() if name in part}
        samples = dict.fromkeys(sample for part in parts.values() for sample in part)
        for sample in samples:
            counted = {worker: part[sample] for worker, part in parts.items() if sample in part}
            self._told[sample] = self._total(sample, counted)
        return {sample: self._told[sample] for sample in samples}

    def _total(self, sample: SampleName, counted: Mapping[Hashable, float]) -> float:
        """Of a counter that all workers count alike, each from its own start."""
        starts = self._starts.setdefault(sample, {})
        total = max([self._told.get(sample, 0.0), *(counted[worker] + starts[worker] for worker in starts)])
        for worker in counted.keys() - starts.keys():
            starts[worker] = total - counted[worker] if sample in self._told else 0.0
        return max(counted[worker] + starts[worker] for worker in starts)


def _restarts(count: int) -> Family:
    return Family(RESTARTS, "", "counter", [((f"{RESTARTS}_total", ()), count)])


def _plus(one: float, other: float) -> float:
    return one + other


def _folded(parts: Iterable[Mapping[SampleName, float]], fold: Callable[[float, float], float]) -> Samples:
    folded: Samples = {}
    for part in parts:
        for name, value in part.items():
            folded[name] = fold(folded[name], value) if name in folded else value
    return folded
