"""The parts of one edge, as sessions see them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.auth import TokenVerifier
from edge.backend import Backend
from edge.config import EdgeSettings
from edge.presence import Presence
from edge.sessions import Sessions
from edge.tracing import Tracing
from runtime.pulse import Pulse

if TYPE_CHECKING:
    from edge.delivery import Delivery


@dataclass(frozen=True, slots=True)
class Hub:
    """What every session needs."""

    settings: EdgeSettings
    verifier: TokenVerifier
    sessions: Sessions
    backend: Backend
    presence: Presence
    delivery: "Delivery"
    tracing: Tracing
    pulse: Pulse
