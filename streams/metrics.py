"""The numbers of a worker in Prometheus' text format, made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

# name of a count of a role: metric (a counter), and what it is
COUNTS: Final = {
    "events": ("journey_events", "Events done: raw ones by ingest, journal entries by the engine, samples."),
    "pages": ("journey_pages", "Journal pages folded."),
    "triggers": ("journey_triggers", "Triggers sent."),
    "repeats": ("journey_repeats_skipped", "Journal entries skipped because they were applied before."),
    "poison": ("journey_poison", "Journal entries that nobody can fold."),
    "published": ("journey_models_published", "Snapshots of models published."),
    "fits": ("journey_model_fits", "Models computed by a batch library."),
    "adopted": ("journey_models_adopted", "Snapshots of models put in force."),
    "refused": ("journey_models_refused", "Snapshots of models that were not published or not adopted."),
    "notices": ("journey_model_notices", "Alarms of models, such as a drift; the log has them."),
    "bad_samples": ("journey_bad_samples", "Samples that no model can learn."),
    "checkpoints": ("journey_checkpoints", "Checkpoints of learners written."),
    "gave_up": ("journey_marks_given_up", "Times ingest went on without the loader's mark."),
    "align_waits": ("journey_align_waits", "Times ingest waited for a raw partition that brought nothing."),
    "align_gave_up": ("journey_align_gave_up", "Raw partitions that ingest went on without."),
}
# name of a number of a role: metric (a gauge), and what it is
GAUGES: Final = {
    "ready": ("journey_role_ready", "1 when the role has its partitions, and their state."),
    "timers_overdue": ("journey_timers_overdue", "Customers with a timer that is due by the wall clock."),
    "prompt_timer_late_seconds": ("journey_prompt_timer_late_seconds", "How late the latest cart timer is."),
    "table_records": ("journey_table_records", "Customers kept here (on disk: estimated)."),
}
HELD: Final = {
    "align_held": ("journey_align_held", "Records held to be put into the order of time."),
    "align_most_held": ("journey_align_most_held", "Most records that were ever held."),
}
READ_MODEL: Final = {
    "behind": ("journey_read_model_behind", "Customers that Redis does not show as they are."),
    "stale_seconds": ("journey_read_model_stale_seconds", "Age of what Redis shows, 0 when it shows all."),
    "away": ("journey_read_model_away", "1 while Redis does not answer."),
}


def exposition(told: Callable[[], dict[str, Any]]) -> bytes:
    """Return the text for a scrape."""
    registry = CollectorRegistry()
    registry.register(_Worker(told()))
    return generate_latest(registry)


class _Worker(Collector):
    """What one worker tells of itself, as metrics."""

    def __init__(self, told: dict[str, Any]) -> None:
        self._told = told

    def collect(self) -> Iterator[Metric]:
        """Yield the families."""
        roles = self._told["roles"]
        for name, (metric, text) in COUNTS.items():
            yield _counter(metric, text, roles, _of(name, "counts"))
        for name, (metric, text) in GAUGES.items():
            yield _gauge(metric, text, roles, _of(name))
        for name, (metric, text) in HELD.items():
            yield _gauge(metric, text, roles, _of(name, "counts"))
        for name, (metric, text) in READ_MODEL.items():
            yield _gauge(metric, text, roles, _of(name, "read_model"))
        yield _counter("journey_rebalances", "Assignments of partitions.", roles, _of("rebalances"))
        text = "Time the last reading back of the customer table took."
        yield _gauge("journey_recovery_seconds", text, roles, _of("seconds", "recovery"))
        yield from self._detailed()
        yield from self._process()

    def _detailed(self) -> Iterator[Metric]:
        letters = CounterMetricFamily("journey_dead_letters", "Dead letters written.", labels=("reason",))
        phases = CounterMetricFamily("journey_group_seconds", "Time spent on groups.", labels=("role", "phase"))
        lag = GaugeMetricFamily("journey_lag", "Records not done yet.", labels=("role", "topic", "partition"))
        for name, role in self._told["roles"].items():
            for reason, count in role.get("dead_letters", {}).items():
                letters.add_metric((reason,), count)
            for phase, seconds in role["seconds"].items():
                phases.add_metric((name, phase), seconds)
            for source, count in role["lag"].items():
                topic, _, partition = source.rpartition("/")
                lag.add_metric((name, topic, partition), count)
            if name == "engine" and role["counts"]["poison"]:
                letters.add_metric(("poison",), role["counts"]["poison"])
        yield from (letters, phases, lag)

    def _process(self) -> Iterator[Metric]:
        told, epoch = self._told, self._told["epoch"]
        yield GaugeMetricFamily("journey_ready", "1 when every role is ready.", value=told["ready"])
        yield GaugeMetricFamily("journey_compiled", "1 when the fold runs compiled.", value=told["compiled"])
        yield GaugeMetricFamily("journey_fold_version", "Version of the fold.", value=told["fold_version"])
        live = GaugeMetricFamily("journey_epoch", "Numbers of the epoch that is live.", labels=("of",))
        for name, number in epoch.items():
            live.add_metric((name,), number)
        yield live
        process = told["process"]
        yield CounterMetricFamily("process_cpu_seconds", "CPU time of the worker.", value=process["cpu_seconds"])
        yield GaugeMetricFamily("process_resident_memory_bytes", "Memory of the worker.", value=process["rss_bytes"])


def _of(name: str, within: str | None = None) -> Callable[[Any], Any]:
    """Return a function that reads a number of a role, or of a part of it."""

    def read(role: Any) -> Any:
        part = role if within is None else role.get(within) or {}
        return part.get(name)

    return read


def _counter(name: str, text: str, roles: dict[str, Any], of: Callable[[Any], Any]) -> Metric:
    return _filled(CounterMetricFamily(name, text, labels=("role",)), roles, of)


def _gauge(name: str, text: str, roles: dict[str, Any], of: Callable[[Any], Any]) -> Metric:
    return _filled(GaugeMetricFamily(name, text, labels=("role",)), roles, of)


def _filled(family: Any, roles: dict[str, Any], of: Callable[[Any], Any]) -> Metric:
    for name, role in roles.items():
        value = of(role)
        if value is not None:
            family.add_metric((name,), value)
    filled: Metric = family
    return filled
