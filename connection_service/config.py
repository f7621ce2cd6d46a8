"""The settings of the connection service."""

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator

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
    fcm_credentials: SecretStr | None = Field(
        None,
        validation_alias="BUBBLE_FCM_CREDENTIALS",
        description="JSON of the service account for Firebase Cloud Messaging; unset: nobody is told of a share by push",
    )
    fcm_credentials_file: Path | None = Field(
        None,
        validation_alias="BUBBLE_FCM_CREDENTIALS_FILE",
        description="file with the value of `BUBBLE_FCM_CREDENTIALS`",
    )
    fcm_url: str = Field(
        "https://fcm.googleapis.com",
        validation_alias="BUBBLE_FCM_URL",
        description="where Firebase Cloud Messaging is",
    )

    @model_validator(mode="after")
    def _credentials_are_good(self) -> Self:
        if self.fcm_credentials is not None:
            from connection_service.fcm import read_credentials  # here: its HTTP client takes a third of a start

            try:
                read_credentials(self.fcm_credentials.get_secret_value())
            except ValueError as error:
                raise ValueError(f"BUBBLE_FCM_CREDENTIALS: {error}") from None
        return self
