"""The settings of the connection service."""

from pydantic import Field

from runtime.settings import ServiceSettings


class ConnectionSettings(ServiceSettings):
    """Read from the environment."""

    port: int = Field(
        50053, ge=0, lt=65_536, validation_alias="BUBBLE_CONNECTION_PORT", description="gRPC port; 0 = any free one"
    )
    metrics_port: int = Field(
        9053,
        ge=0,
        lt=65_536,
        validation_alias="BUBBLE_CONNECTION_METRICS_PORT",
        description="HTTP port of `/metrics`, `/healthz` and `/readyz`; 0, or one that is taken = any free one",
    )
    max_connections_per_user: int = Field(
        32,
        ge=0,
        validation_alias="BUBBLE_MAX_CONNECTIONS_PER_USER",
        description="connections of one user at all edges together; 0 = no limit",
    )
