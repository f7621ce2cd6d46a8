"""The settings that every process has. Each process extends `ProcessSettings` in its own `config.py`.

Every field names its environment variable as its alias and says in its description what it means, in which unit, and
what zero does: README.md's table is checked against these.

A secret may also be in a file, as container platforms hand secrets over: `NAME_FILE` names the file with the value of
`NAME`. Such a pair is two fields; `ProcessSettings` reads the file for every pair there is.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtime import tls

_FILE = "_FILE"


class ProcessSettings(BaseSettings):
    """Read once, at the start of a process, from the environment only. An empty variable counts as unset."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore", frozen=True)

    dev: bool = Field(
        False,
        validation_alias="BUBBLE_DEV",
        description="development mode: log-in without a password on the page, a random token secret kept in the data "
        "directory, logs made for reading when they go to a terminal. Never in production",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", validation_alias="BUBBLE_LOG_LEVEL", description="the least severe log lines that are written"
    )
    drain_seconds: float = Field(
        10.0,
        ge=0,
        validation_alias="BUBBLE_DRAIN_SECONDS",
        description="seconds a process that gets SIGTERM takes at most to finish what is under way; 0 = none",
    )
    data_dir: Path = Field(
        Path("data"),
        validation_alias="BUBBLE_DATA_DIR",
        description="directory of the SQLite files, and of the secret made in development mode",
    )
    otlp_endpoint: str = Field(
        "",
        validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT",
        description="where traces are sent (OTLP over gRPC), such as `http://localhost:4317`; unset = tracing is off",
    )
    span_queue: int = Field(
        8_192,
        gt=0,
        validation_alias="OTEL_BSP_MAX_QUEUE_SIZE",
        description="spans that may wait to be sent, some 3 KB each; more are dropped, and counted in the log",
    )

    build: str = Field(
        "",
        max_length=100,
        validation_alias="BUBBLE_BUILD",
        description="what was built, such as a git commit: told in metrics, the log and `doctor` beside the version",
    )

    grpc_cert: Path | None = Field(
        None,
        validation_alias="BUBBLE_GRPC_CERT",
        description="file with the certificate of this process, and the chain behind it (PEM): its gRPC is mutual TLS; "
        "unset: it is not encrypted",
    )
    grpc_key: Path | None = Field(
        None, validation_alias="BUBBLE_GRPC_KEY", description="file with the key of `BUBBLE_GRPC_CERT` (PEM)"
    )
    grpc_ca: Path | None = Field(
        None,
        validation_alias="BUBBLE_GRPC_CA",
        description="file with the certificate of the authority that has signed those of all processes (PEM)",
    )
    grpc_name: str = Field(
        "",
        validation_alias="BUBBLE_GRPC_NAME",
        description="the name in the certificates of all services; unset: in each the host of its address",
    )

    @model_validator(mode="before")
    @classmethod
    def _read_secret_files(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """Adds the content of `NAME_FILE` as `NAME`. As with variables, an empty one counts as unset."""
        values = dict(given)
        for file_variable in environment_names(cls):
            variable = file_variable.removesuffix(_FILE)
            if variable == file_variable or not values.get(file_variable):
                continue
            secret = _secret_in(file_variable, Path(values[file_variable]))
            if secret and values.get(variable):
                raise ValueError(f"{variable} and {file_variable} are both set: which one is meant?")
            if secret:
                values[variable] = secret
        return values

    @model_validator(mode="after")
    def _certificates_are_good(self) -> Self:
        files = (self.grpc_cert, self.grpc_key, self.grpc_ca)
        if any(files) != all(files):
            raise ValueError("BUBBLE_GRPC_CERT, BUBBLE_GRPC_KEY and BUBBLE_GRPC_CA belong together")
        _ = self.tls  # raises ValueError when they are not
        return self

    @cached_property
    def tls(self) -> tls.Tls | None:
        """With what gRPC is encrypted, read when the settings are checked; None: with nothing."""
        if self.grpc_cert is None or self.grpc_key is None or self.grpc_ca is None:
            return None
        return tls.read(self.grpc_cert, self.grpc_key, self.grpc_ca, self.grpc_name)


class ServiceSettings(ProcessSettings):
    """What the three gRPC services have beside that."""

    host: str = Field("127.0.0.1", validation_alias="BUBBLE_HOST", description="address the gRPC services listen on")
    store: Literal["sqlite", "mongodb"] = Field(
        "sqlite", validation_alias="BUBBLE_STORE", description="`sqlite` or `mongodb`"
    )
    mongodb_uri: SecretStr | None = Field(
        None,
        validation_alias="MONGODB_URI",
        description="where MongoDB is; needed when the store is `mongodb`",
    )
    mongodb_uri_file: Path | None = Field(
        None,
        validation_alias="MONGODB_URI_FILE",
        description="file with the value of `MONGODB_URI`, which may hold a password",
    )
    mongodb_database: str = Field(
        "bubble",
        min_length=1,
        validation_alias="BUBBLE_MONGODB_DATABASE",
        description="name of the MongoDB database",
    )

    @model_validator(mode="after")
    def _mongodb_needs_a_uri(self) -> Self:
        if self.store == "mongodb" and self.mongodb_uri is None:
            raise ValueError("MONGODB_URI must be set when BUBBLE_STORE is mongodb")
        return self


def environment_names(settings: type[ProcessSettings]) -> dict[str, str]:
    """The fields of a settings class by the environment variable each is read from."""
    names = {}
    for name, field in settings.model_fields.items():
        alias = field.validation_alias
        names[str(alias.choices[0]) if isinstance(alias, AliasChoices) else str(alias)] = name
    return names


def _secret_in(variable: str, path: Path) -> str:
    """What a file holds, without the white space at its ends. Raises ValueError, never with a part of the content."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ValueError(f"{variable}: {path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ValueError(f"{variable}: {path} is not text") from None


def describe(error: ValidationError) -> str:
    """A validation error as one line for the person who set the variables, without the values (they may be secret)."""
    return "; ".join(
        ": ".join([*map(str, fault["loc"]), fault["msg"].removeprefix("Value error, ")])
        for fault in error.errors(include_input=False, include_url=False)
    )
