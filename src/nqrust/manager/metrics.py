"""Metrics for Prometheus at /metrics (named by its practices: base units, `_total` for counters)."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

REQUESTS = Counter("nqrust_http_requests_total", "Requests answered.", ["method", "route", "status"], registry=REGISTRY)
SECONDS = Histogram(
    "nqrust_http_request_duration_seconds",
    "Time to answer a request.",
    ["route"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
    registry=REGISTRY,
)
VMS = Gauge("nqrust_vms", "VMs by observed state.", ["state"], registry=REGISTRY)
HOSTS = Gauge("nqrust_hosts", "Hosts by state.", ["state"], registry=REGISTRY)
UNKNOWN_VMS = Gauge("nqrust_unknown_vms", "VMs that run on a host without a record.", ["host"], registry=REGISTRY)
OPERATIONS = Counter("nqrust_operations_total", "Operations ended.", ["kind", "outcome"], registry=REGISTRY)
OPEN_OPERATIONS = Gauge("nqrust_operations_open", "Operations waiting or running.", registry=REGISTRY)
EVENTS = Counter("nqrust_events_total", "Events written.", ["reason"], registry=REGISTRY)
RECONCILE_SECONDS = Histogram("nqrust_reconcile_duration_seconds", "Time of one reconcile pass.", registry=REGISTRY)
RECONCILE_ACTIONS = Counter("nqrust_reconcile_actions_total", "Actions of the reconciler.", ["action"], registry=REGISTRY)
LEADER = Gauge("nqrust_leader", "1 while this process runs operations and reconciles.", registry=REGISTRY)


def exposition() -> bytes:
    """Return the text format, version 0.0.4."""
    return generate_latest(REGISTRY)
