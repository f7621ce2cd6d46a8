"""Which messages are traced. The decision is made here, once, at a message's arrival; everything behind the edge follows.

- The sampler decides at random, as `OTEL_TRACES_SAMPLER` says.
- Clients may ask: a `traceparent` with the sampled flag is granted `ASKED_PER_SECOND` times a second beyond what the sampler
  takes anyway (not at all when the sampler's name does not begin with `parentbased_`). They are strangers, and a trace costs
  more than its message; so their flag is a wish. The flag unset leaves the choice to the sampler.
- Users and devices that the settings name are always traced.
- Of what is refused, at least one span is recorded, in hindsight: see `refused`.
"""

import random
import time
from collections.abc import Callable

from edge.config import EdgeSettings
from edge.errors import ClientError
from edge.limits import TokenBucket
from runtime import semconv
from runtime.semconv import SpanType
from runtime.telemetry import NO_SPAN, Span, Telemetry, is_sampled, unrecorded

ASKED_PER_SECOND = 50
"""Traces per second that the clients of one edge get by asking. Enough for a person with a question, little for a flood."""

ERRORS_PER_SECOND = 50
"""Spans of refusals that would not have been recorded, per second. During an outage one in a hundred tells as much."""

_BURST_SECONDS = 4


class Tracing:
    """The edge's part in traces."""

    def __init__(self, telemetry: Telemetry, settings: EdgeSettings) -> None:
        self.telemetry = telemetry
        sampler = settings.trace_sampler
        self._enabled = telemetry.enabled
        self._clients_may_ask = sampler.startswith("parentbased_")
        if sampler.endswith("traceidratio"):
            self._ratio = settings.trace_ratio
        else:
            self._ratio = 1.0 if sampler.endswith("always_on") else 0.0
        self._users = _names(settings.trace_users)
        self._devices = _names(settings.trace_devices)
        now = time.monotonic()
        self._asked = TokenBucket(ASKED_PER_SECOND, ASKED_PER_SECOND * _BURST_SECONDS, now)
        self._errors = TokenBucket(ERRORS_PER_SECOND, ERRORS_PER_SECOND * _BURST_SECONDS, now)

    def follows(self, user_id: str, device_id: str) -> bool:
        """Whether everything that this device of this user does is traced."""
        return self._enabled and (user_id in self._users or device_id in self._devices)

    def wants(self, client_parent: str) -> bool:
        """Whether a message is to be traced; `client_parent` is what its client sent with it, if anything."""
        if not self._enabled:
            return False
        ratio = self._ratio
        if ratio and (ratio >= 1 or random.random() < ratio):
            return True
        return self._clients_may_ask and is_sampled(client_parent) and self._asked.take(time.monotonic())

    def refused(
        self,
        kind: SpanType,
        error: ClientError,
        traceparent: str,
        describe: Callable[[], semconv.Attributes],
        *,
        waited: float = 0,
    ) -> str:
        """A refusal of what was not traced. Returns a context that names it.

        Records one span, with the whole duration (`waited`, in seconds) and the reason, while there are not too many of
        these. What happened behind the edge was not recorded and can't be any more: the logs have the same trace id.
        """
        span: Span = NO_SPAN
        if self._enabled and self._errors.take(time.monotonic()):
            started_ns = time.time_ns() - int(waited * 1e9)
            span = self.telemetry.begin(kind, client_parent=traceparent, attributes=describe(), started_ns=started_ns)
            span.set({semconv.PARTIAL: True})
            span.fail(str(error.code), error.message)
            span.end()
        return span.traceparent or traceparent or unrecorded()


def _names(listed: str) -> frozenset[str]:
    return frozenset(name.strip() for name in listed.split(",") if name.strip())
