"""Counters, gauges and histograms that cost a fraction of a microsecond.

prometheus_client's own take a lock and walk their buckets at every observation; these are plain
attributes, because one event loop writes and reads them. prometheus_client still does the
exposition: `Instruments` is one of its collectors. Not safe to use from several threads.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric, SummaryMetricFamily
from prometheus_client.utils import floatToGoString


class Value:
    """A counter or a gauge; add to `value` or set it."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def sample(self) -> tuple[float]:
        """What prometheus_client's family takes of it."""
        return (self.value,)


class Cumulative(Value):
    """A counter fed with another process's running total, which starts again when that does."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        super().__init__()
        self._seen = 0.0

    def follow(self, total: float) -> None:
        """Count what was added since the last call."""
        self.value += total - self._seen if total >= self._seen else total
        self._seen = total

    def restart(self) -> None:
        """The next total counts from zero."""
        self._seen = 0.0


class Histogram:
    """Counts per bucket; a value equal to a bound falls below it."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float] = ()) -> None:
        self.total = 0.0
        self.set_bounds(bounds)

    def set_bounds(self, bounds: Sequence[float]) -> None:
        """Only while nothing has been observed."""
        self.bounds = tuple(float(bound) for bound in bounds)
        self.counts = [0] * (len(bounds) + 1)  # the last one has no upper bound

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        return sum(self.counts)

    def sample(self) -> tuple[list[tuple[str, float]], float]:
        """((upper bound as text, observations at or below it), the last one all; the sum)."""
        running, pairs = 0, []
        for bound, count in zip((*self.bounds, float("inf")), self.counts):
            running += count
            pairs.append((floatToGoString(bound), float(running)))
        return pairs, self.total


class Summary:
    """How many, and their sum."""

    __slots__ = ("count", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.count += 1
        self.total += value

    def sample(self) -> tuple[int, float]:
        return self.count, self.total


Child = TypeVar("Child", bound=Value | Histogram | Summary)


class Family(Generic[Child]):
    """One metric name: a child for every combination of label values seen.

    Args:
        metric: prometheus_client's class of such a family.
        fixed: labels that every sample carries, with their values.
    """

    def __init__(
        self,
        metric: Callable[..., Metric],
        make: Callable[[], Child],
        name: str,
        help_text: str,
        fixed: dict[str, str],
        labels: Sequence[str] = (),
    ) -> None:
        self._empty = partial(metric, name, help_text, labels=(*fixed, *labels))
        self._make: Callable[[], Child] = make
        self._fixed = tuple(fixed.values())
        self._children: dict[tuple[str, ...], Child] = {}

    def labels(self, *values: str) -> Child:
        """The child of these values, made when first asked for. Keep it: asking costs a look-up."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._make()
        return child

    def collect(self) -> Metric:
        metric: Any = self._empty()
        for values, child in self._children.items():
            metric.add_metric((*self._fixed, *values), *child.sample())
        return metric


class Instruments:
    """Every family of one prefix, all with the same fixed labels. A prometheus_client collector.

    Args:
        prefix: goes before each name: "quire:".
        fixed: labels that every sample carries, with their values.
    """

    def __init__(self, prefix: str, fixed: dict[str, str]) -> None:
        self._prefix = prefix
        self._fixed = fixed
        self._families: list[Family[Any]] = []

    def counter(
        self, name: str, help_text: str, labels: Sequence[str] = (), *, fixed: Sequence[str] = ()
    ) -> Family[Value]:
        """Exposed with `_total` at the end of its name."""
        return self._add(CounterMetricFamily, Value, name, help_text, labels, fixed)

    def following(self, name: str, help_text: str) -> Cumulative:
        """A counter of totals that the engine keeps."""
        return self._add(CounterMetricFamily, Cumulative, name, help_text).labels()

    def gauge(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Family[Value]:
        return self._add(GaugeMetricFamily, Value, name, help_text, labels)

    def histogram(
        self, name: str, help_text: str, bounds: Sequence[float], labels: Sequence[str] = ()
    ) -> Family[Histogram]:
        return self._add(HistogramMetricFamily, lambda: Histogram(bounds), name, help_text, labels)

    def summary(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Family[Summary]:
        return self._add(SummaryMetricFamily, Summary, name, help_text, labels)

    def _add(
        self,
        metric: Callable[..., Metric],
        make: Callable[[], Child],
        name: str,
        help_text: str,
        labels: Sequence[str] = (),
        fixed: Sequence[str] = (),
    ) -> Family[Child]:
        kept = {k: v for k, v in self._fixed.items() if not fixed or k in fixed}
        family = Family(metric, make, self._prefix + name, help_text, kept, labels)
        self._families.append(family)
        return family

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            yield family.collect()
