"""What Prometheus reads of a node, taken from the ledger, the spool and the broker at each scrape.

Nothing is counted in the processes that receive or work: several listeners of one ledger tell the
same, whichever is asked, and a listener that dies forgets nothing. Counters begin at zero when
the process that answers starts, as Prometheus expects of counters.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import redis
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from dicom_node import __version__
from dicom_node.config import NodeSettings
from dicom_node.errors import NodeError
from dicom_node.host_metrics import disk_metrics, gauge
from dicom_node.ledger import Ledger
from dicom_node.ledger_activity import (
    Happening,
    arrivals_since,
    deliveries_under_way,
    happenings_after,
    images_after,
    last_happening,
    oldest_by_state,
)
from dicom_node.queues import queue_lengths
from dicom_node.records import TRANSITIONS, SeriesEvent, SeriesRecord, SeriesState
from dicom_node.uids import is_uid

LATENCY_BUCKETS_S: Final = (
    5.0,
    10.0,
    15.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    1800.0,
    3600.0,
    86400.0,
)
_AT_ONCE: Final = 10_000
# A series that has been quiet for so long cannot grow unseen between two scrapes.
_ARRIVAL_MEMORY: Final = timedelta(hours=1)
_ENDED: Final = frozenset(
    state for state, event in TRANSITIONS if event is SeriesEvent.RETRY_REQUESTED
)


class NodeCollector(Collector):
    """Metrics of one node.

    Parameters
    ----------
    settings : NodeSettings
    ledger : Ledger
    clock : callable
        Returns the time in UTC.
    """

    def __init__(
        self, settings: NodeSettings, ledger: Ledger, clock: Callable[[], datetime]
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._clock = clock
        self._lock = threading.Lock()
        self._tail = _Tail(ledger)
        self._arrivals = _Arrivals(ledger, clock())

    @override
    def collect(self) -> Iterator[Metric]:
        with self._lock:
            yield gauge("psoas_build_info", "Version of Psoas.", {(("version", __version__),): 1.0})
            yield from self._of_the_ledger()
            yield from self._of_the_broker()
            yield from disk_metrics(self._settings.storage.folder)

    def _of_the_ledger(self) -> Iterator[Metric]:
        try:
            yield from self._states()
            yield from self._deliveries()
            yield self._alarms()
            self._tail.follow()
            self._arrivals.follow(self._clock())
        except NodeError:
            yield gauge("psoas_ledger_up", "Whether the ledger can be read.", {(): 0.0})
            return
        yield gauge("psoas_ledger_up", "Whether the ledger can be read.", {(): 1.0})
        yield from self._tail.metrics()
        yield from self._arrivals.metrics()

    def _states(self) -> Iterator[Metric]:
        counts, now = self._ledger.counts(), self._clock()
        series = GaugeMetricFamily("psoas_series", "Series in each state.", labels=["state"])
        for state in SeriesState:
            series.add_metric([state], counts.get(state, 0))
        yield series
        oldest = self._ledger.read(oldest_by_state)
        age = GaugeMetricFamily(
            "psoas_oldest_series_age_seconds",
            "How long the series that has been longest in a state is in it; 0 without any.",
            labels=["state"],
        )
        for state in SeriesState:
            if state not in _ENDED:
                since = oldest.get(state, now)
                age.add_metric([state], max((now - since).total_seconds(), 0.0))
        yield age

    def _deliveries(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily(
            "psoas_deliveries",
            "Results that a destination does not have, by state.",
            labels=["destination", "state"],
        )
        age = GaugeMetricFamily(
            "psoas_oldest_delivery_age_seconds",
            "How long the result that has waited longest for a destination waits.",
            labels=["destination"],
        )
        now = self._clock()
        for one in self._ledger.read(deliveries_under_way):
            waiting.add_metric([one.destination, one.state], one.count)
            if one.state != "dead":
                age.add_metric([one.destination], (now - one.oldest_at).total_seconds())
        yield waiting
        yield age

    def _alarms(self) -> Metric:
        alarms = GaugeMetricFamily(
            "psoas_alarms", "How often an alarm that stands was raised.", labels=["code", "subject"]
        )
        for alarm in self._ledger.alarms.standing():
            # Alarms about a single series have no end of subjects; one is enough to look.
            if not is_uid(alarm.subject):
                alarms.add_metric([alarm.code, alarm.subject], alarm.occurrences)
        return alarms

    def _of_the_broker(self) -> Iterator[Metric]:
        lengths = GaugeMetricFamily(
            "psoas_queue_messages", "Messages that no worker has taken.", labels=["queue"]
        )
        up = 1.0
        try:
            for queue, length in queue_lengths(self._settings).items():
                lengths.add_metric([queue], length)
        except (redis.RedisError, OSError, ValueError):
            up = 0.0
        yield gauge("psoas_broker_up", "Whether the broker answers.", {(): up})
        yield lengths


class _Tail:
    """Follows the history from where it ended at the start."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._seen = ledger.read(last_happening)
        self._events: Counter[tuple[str, str]] = Counter()
        self._answers: Counter[tuple[str, str]] = Counter()
        self._latencies_s: list[int] = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self._latency_sum_s = 0.0

    def follow(self) -> None:
        while True:
            query = partial(happenings_after, number=self._seen, limit=_AT_ONCE)
            happenings = self._ledger.read(query)
            for happening in happenings:
                self._count(happening)
            if len(happenings) < _AT_ONCE:
                return

    def metrics(self) -> Iterator[Metric]:
        events = CounterMetricFamily(
            "psoas_series_events",
            "Steps of series, with the code of the reason.",
            labels=["event", "code"],
        )
        for labels, count in sorted(self._events.items()):
            events.add_metric(labels, count)
        yield events
        answers = CounterMetricFamily(
            "psoas_delivery_answers",
            "Answers of destinations to results.",
            labels=["destination", "answer"],
        )
        for labels, count in sorted(self._answers.items()):
            answers.add_metric(labels, count)
        yield answers
        yield self._latency()

    def _count(self, happening: Happening) -> None:
        self._seen = happening.number
        event, code = happening.event, happening.reason_code or ""
        if event.startswith("delivery_") and happening.reason_message is not None:
            destination = happening.reason_message.partition(": ")[0]
            self._answers[destination, event.removeprefix("delivery_")] += 1
            return
        self._events[event, code] += 1
        if event == "all_delivered":
            seconds = (happening.at - happening.last_received_at).total_seconds()
            fitting = (n for n, bound in enumerate(LATENCY_BUCKETS_S) if seconds <= bound)
            self._latencies_s[next(fitting, len(LATENCY_BUCKETS_S))] += 1
            self._latency_sum_s += max(seconds, 0.0)

    def _latency(self) -> Metric:
        bounds = [f"{bound:g}" for bound in LATENCY_BUCKETS_S] + ["+Inf"]
        totals, total = [], 0
        for count in self._latencies_s:
            total += count
            totals.append(total)
        return HistogramMetricFamily(
            "psoas_last_image_to_pacs_seconds",
            "From the last image of a series to its results at every destination.",
            buckets=list(zip(bounds, totals, strict=True)),
            sum_value=self._latency_sum_s,
        )


class _Arrivals:
    """Counts the images that each source has sent since the start."""

    def __init__(self, ledger: Ledger, started_at: datetime) -> None:
        self._ledger = ledger
        self._known: dict[str, tuple[int, datetime]] = {}
        self._images: Counter[str] = Counter()
        self._looked_at = started_at
        self._note(started_at)
        self._images.clear()

    def follow(self, now: datetime) -> None:
        self._note(now)

    def metrics(self) -> Iterator[Metric]:
        images = CounterMetricFamily(
            "psoas_images", "Images that were received and kept.", labels=["source"]
        )
        for source, count in sorted(self._images.items()):
            images.add_metric([source], count)
        yield images

    def _note(self, now: datetime) -> None:
        since = now - _ARRIVAL_MEMORY
        for record in self._ledger.read(partial(arrivals_since, since=since)):
            self._images[record.source_ae_title] += record.instance_count - self._before(record)
            seen = record.instance_count, record.last_received_at
            self._known[record.series_instance_uid] = seen
        self._looked_at = now
        self._known = {uid: seen for uid, seen in self._known.items() if seen[1] >= since}

    def _before(self, record: SeriesRecord) -> int:
        """How many images a series had when it was looked at last."""
        uid = record.series_instance_uid
        if uid in self._known:
            return self._known[uid][0]
        if record.first_received_at >= self._looked_at:
            return 0
        # It was forgotten, and got late images.
        late = partial(images_after, series_instance_uid=uid, at=self._looked_at)
        return record.instance_count - self._ledger.read(late)
