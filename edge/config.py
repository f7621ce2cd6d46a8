"""The settings of the edge."""

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from edge.local_time import zone_from
from runtime.settings import ProcessSettings

_ADDRESS = (
    "`host:port` of the {} service; a name that resolves to many replicas, or several `ip:port` separated by commas"
)

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]+)?")
_DEFAULT_PORT = re.compile(r"http://.*:80|https://.*:443")  # browsers leave it out


class EdgeSettings(ProcessSettings):
    """Read from the environment."""

    host: str = Field("127.0.0.1", validation_alias="BUBBLE_EDGE_HOST", description="address the edge listens on")
    port: int = Field(
        8080, ge=0, lt=65_536, validation_alias="BUBBLE_EDGE_PORT", description="HTTP port; 0 = any free one"
    )
    timer_address: str = Field(
        "127.0.0.1:50051", validation_alias="BUBBLE_TIMER_ADDRESS", description=_ADDRESS.format("timer")
    )
    sharing_address: str = Field(
        "127.0.0.1:50052", validation_alias="BUBBLE_SHARING_ADDRESS", description=_ADDRESS.format("sharing")
    )
    connection_address: str = Field(
        "127.0.0.1:50053", validation_alias="BUBBLE_CONNECTION_ADDRESS", description=_ADDRESS.format("connection")
    )
    jwt_secret: SecretStr | None = Field(
        None,
        validation_alias="BUBBLE_JWT_SECRET",
        description="secret of HS256 tokens, best 32 bytes or more; several, one a line, are all accepted (to replace one "
        "by another); unset: such tokens are refused (in development mode a random one is made once and kept in the data "
        "directory)",
    )
    jwt_secret_file: Path | None = Field(
        None,
        validation_alias="BUBBLE_JWT_SECRET_FILE",
        description="file with the value of `BUBBLE_JWT_SECRET`",
    )
    jwks_url: str = Field(
        "",
        validation_alias="BUBBLE_JWKS_URL",
        description="URL or file of the key set of RS256 and ES256 tokens; unset: such tokens are refused",
    )
    jwt_issuer: str = Field(
        "", validation_alias="BUBBLE_JWT_ISSUER", description="what `iss` must be; unset: not checked"
    )
    jwt_audience: str = Field(
        "", validation_alias="BUBBLE_JWT_AUDIENCE", description="what `aud` must have; unset: not checked"
    )
    jwt_user_claims: str = Field(
        "cognito:username,sub",
        validation_alias="BUBBLE_JWT_USER_CLAIMS",
        description="claims that may name the user, separated by commas; the first that a token has is taken",
    )
    app_time_zone: str = Field(
        "UTC",
        validation_alias="BUBBLE_APP_TIME_ZONE",
        description="time zone (`Europe/Berlin`) or offset from UTC (`+02:00`) of the app's devices until theirs is known",
    )
    allowed_origins: str = Field(
        "",
        validation_alias="BUBBLE_ALLOWED_ORIGINS",
        description="web origins that may connect beside the edge's own, as browsers send them (`https://app.example`, "
        "`http://localhost:3000`), separated by commas; `*` = all",
    )
    messages_per_second: float = Field(
        20,
        ge=0,
        validation_alias="BUBBLE_MESSAGES_PER_SECOND",
        description="messages one connection may send per second on average; 0 = no limit",
    )
    message_burst: float = Field(
        60, ge=0, validation_alias="BUBBLE_MESSAGE_BURST", description="messages one connection may send at once"
    )
    invitations_per_minute: float = Field(
        30,
        ge=0,
        validation_alias="BUBBLE_INVITATIONS_PER_MINUTE",
        description="invitations one user may make per minute at one edge, on average and at once; 0 = no limit",
    )
    max_connections: int = Field(
        20_000, ge=0, validation_alias="BUBBLE_MAX_CONNECTIONS", description="connections of this edge; 0 = no limit"
    )
    ping_interval: float = Field(
        25, gt=0, validation_alias="BUBBLE_PING_INTERVAL", description="seconds between two WebSocket pings"
    )
    ping_timeout: float = Field(
        45,
        gt=0,
        validation_alias="BUBBLE_PING_TIMEOUT",
        description="seconds without any sign of life after which a connection is cut",
    )
    idle_seconds: float = Field(
        0,
        ge=0,
        validation_alias="BUBBLE_IDLE_SECONDS",
        description="seconds without a message from the client after which a connection is closed; 0 = never",
    )
    max_connection_seconds: float = Field(
        0,
        ge=0,
        validation_alias="BUBBLE_MAX_CONNECTION_SECONDS",
        description="seconds after which a connection is closed, whatever it does; 0 = never",
    )
    backlog_bytes: int = Field(
        256 * 1024,
        gt=0,
        validation_alias="BUBBLE_BACKLOG_BYTES",
        description="bytes that may wait for a slow reader",
    )
    backlog_patience: float = Field(
        10,
        gt=0,
        validation_alias="BUBBLE_BACKLOG_PATIENCE",
        description="seconds a reader may be over that, and take less than that, before it is cut",
    )

    trace_sampler: Literal[
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ] = Field(
        "parentbased_always_on",
        validation_alias="OTEL_TRACES_SAMPLER",
        description="which messages are traced, by OpenTelemetry's names, such as `parentbased_traceidratio`; with "
        "`parentbased_`, clients may ask for it",
    )
    trace_ratio: float = Field(
        1,
        ge=0,
        le=1,
        validation_alias="OTEL_TRACES_SAMPLER_ARG",
        description="the ratio of `traceidratio`: 0.01 = one message in a hundred",
    )
    trace_users: str = Field(
        "",
        validation_alias="BUBBLE_TRACE_USERS",
        description="users, separated by commas, all of whose messages are traced, whatever the sampler says",
    )
    trace_devices: str = Field(
        "", validation_alias="BUBBLE_TRACE_DEVICES", description="the same for devices, by their ids"
    )

    @field_validator("app_time_zone")
    @classmethod
    def _zone_exists(cls, value: str) -> str:
        if zone_from(value) is None:
            raise ValueError("neither a time zone that is known here nor an offset such as +02:00")
        return value

    @field_validator("allowed_origins")
    @classmethod
    def _are_origins(cls, value: str) -> str:
        for origin in map(str.strip, value.split(",")):
            if origin not in ("", "*") and (not _ORIGIN.fullmatch(origin) or _DEFAULT_PORT.fullmatch(origin)):
                raise ValueError(
                    "one of them is no origin as a browser sends it: scheme://host or scheme://host:port in small letters, "
                    "without a slash at the end, and without the port that the scheme has anyway"
                )
        return value

    @model_validator(mode="after")
    def _tokens_can_be_checked(self) -> Self:
        if not (self.jwt_secret or self.jwks_url or self.dev):
            raise ValueError("set BUBBLE_JWT_SECRET or BUBBLE_JWKS_URL (or BUBBLE_DEV=1 on your own machine)")
        return self
