"""The settings of the timer service."""

from pydantic import Field

from runtime.settings import ServiceSettings


class TimerSettings(ServiceSettings):
    """Read from the environment."""

    port: int = Field(
        50051, ge=0, lt=65_536, validation_alias="BUBBLE_TIMER_PORT", description="gRPC port; 0 = any free one"
    )
    metrics_port: int = Field(
        9051,
        ge=0,
        lt=65_536,
        validation_alias="BUBBLE_TIMER_METRICS_PORT",
        description="HTTP port of `/metrics`, `/healthz` and `/readyz`; 0, or one that is taken = any free one",
    )
    sharing_address: str = Field(
        "127.0.0.1:50052",
        validation_alias="BUBBLE_SHARING_ADDRESS",
        description="`host:port` of the sharing service; a name that resolves to many replicas, or several `ip:port` "
        "separated by commas",
    )
    connection_address: str = Field(
        "127.0.0.1:50053",
        validation_alias="BUBBLE_CONNECTION_ADDRESS",
        description="the same for the connection service",
    )
    max_timers_per_user: int = Field(
        500,
        ge=0,
        validation_alias="BUBBLE_MAX_TIMERS_PER_USER",
        description="timers that are not stopped, per owner; replicas that make some for the same owner at the same moment may "
        "go beyond it by what each has under way; 0 = no limit",
    )
