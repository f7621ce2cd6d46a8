"""The settings of the sharing service."""

from pydantic import Field

from runtime.settings import ServiceSettings


class SharingSettings(ServiceSettings):
    """Read from the environment."""

    port: int = Field(
        50052, ge=0, lt=65_536, validation_alias="BUBBLE_SHARING_PORT", description="gRPC port; 0 = any free one"
    )
    metrics_port: int = Field(
        9052,
        ge=0,
        lt=65_536,
        validation_alias="BUBBLE_SHARING_METRICS_PORT",
        description="HTTP port of `/metrics`, `/healthz` and `/readyz`; 0, or one that is taken = any free one",
    )
    connection_address: str = Field(
        "127.0.0.1:50053",
        validation_alias="BUBBLE_CONNECTION_ADDRESS",
        description="`host:port` of the connection service; a name that resolves to many replicas, or several `ip:port` "
        "separated by commas",
    )
    max_members_per_timer: int = Field(
        500,
        ge=0,
        validation_alias="BUBBLE_MAX_MEMBERS_PER_TIMER",
        description="users a timer is shared with; 0 = no limit",
    )
    max_shares_per_user: int = Field(
        2_000,
        ge=0,
        validation_alias="BUBBLE_MAX_SHARES_PER_USER",
        description="timers of others that are shared with one user, those stopped in the last 7 days included; 0 = no limit",
    )
