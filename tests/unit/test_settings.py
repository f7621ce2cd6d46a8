"""`runtime/settings.py` and the `config.py` of every process."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from connection_service.config import ConnectionSettings
from edge.config import EdgeSettings
from runtime.settings import ProcessSettings, ServiceSettings, describe, environment_names
from sharing_service.config import SharingSettings
from timer_service.config import TimerSettings

EVERY_PROCESS: list[type[ProcessSettings]] = [EdgeSettings, TimerSettings, SharingSettings, ConnectionSettings]
EVERY_SERVICE: list[type[ServiceSettings]] = [TimerSettings, SharingSettings, ConnectionSettings]

SECRET = "hunter2-hunter2-hunter2-hunter2-hunter2"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of whoever runs the tests counts."""
    for settings in EVERY_PROCESS:
        for name in environment_names(settings):
            monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("settings", EVERY_SERVICE)
def test_a_service_needs_no_setting_at_all(settings: type[ServiceSettings]) -> None:
    made = settings()
    assert made.store == "sqlite"
    assert made.host == "127.0.0.1"
    assert made.dev is False
    assert made.otlp_endpoint == ""


@pytest.mark.parametrize("settings", EVERY_PROCESS)
def test_every_field_names_its_variable_and_says_what_it_means(settings: type[ProcessSettings]) -> None:
    names = environment_names(settings)
    assert set(names.values()) == set(settings.model_fields)
    for name, field in names.items():
        assert name.startswith(("BUBBLE_", "MONGODB_", "OTEL_")), field
        assert settings.model_fields[field].description, field


def test_the_variables_that_outside_tools_rely_on_are_there() -> None:
    assert {"BUBBLE_TIMER_PORT", "BUBBLE_STORE", "BUBBLE_DATA_DIR", "MONGODB_URI", "BUBBLE_MONGODB_DATABASE"} <= set(
        environment_names(TimerSettings)
    )
    assert "BUBBLE_SHARING_PORT" in environment_names(SharingSettings)
    assert {"BUBBLE_CONNECTION_PORT", "BUBBLE_MAX_CONNECTIONS_PER_USER"} <= set(environment_names(ConnectionSettings))
    assert {
        "BUBBLE_EDGE_HOST",
        "BUBBLE_EDGE_PORT",
        "BUBBLE_JWT_SECRET",
        "BUBBLE_JWKS_URL",
        "BUBBLE_JWT_ISSUER",
        "BUBBLE_JWT_AUDIENCE",
        "BUBBLE_DEV",
        "BUBBLE_MESSAGES_PER_SECOND",
        "BUBBLE_MESSAGE_BURST",
        "BUBBLE_MAX_CONNECTIONS",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
    } <= set(environment_names(EdgeSettings))


def test_variables_are_read_and_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUBBLE_TIMER_PORT", "6000")
    monkeypatch.setenv("BUBBLE_DATA_DIR", "/var/lib/bubble")
    monkeypatch.setenv("BUBBLE_DRAIN_SECONDS", "2.5")
    monkeypatch.setenv("BUBBLE_DEV", "1")
    settings = TimerSettings()
    assert (settings.port, settings.data_dir, settings.drain_seconds) == (6000, Path("/var/lib/bubble"), 2.5)
    assert settings.dev is True


@pytest.mark.parametrize("settings", EVERY_SERVICE)
def test_an_empty_variable_counts_as_unset(settings: type[ServiceSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    unset = settings()
    for name in environment_names(settings):
        monkeypatch.setenv(name, "")
    assert settings() == unset


def test_an_empty_secret_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUBBLE_JWT_SECRET", "")
    with pytest.raises(ValidationError):
        EdgeSettings()


def test_a_secret_may_be_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(f"\n{SECRET}\nthe-one-before\n\n")
    monkeypatch.setenv("BUBBLE_JWT_SECRET_FILE", str(path))
    secret = EdgeSettings().jwt_secret
    assert secret is not None
    assert secret.get_secret_value() == f"{SECRET}\nthe-one-before"
    monkeypatch.setenv("MONGODB_URI_FILE", str(path))
    monkeypatch.setenv("BUBBLE_STORE", "mongodb")
    uri = TimerSettings().mongodb_uri
    assert uri is not None
    assert uri.get_secret_value().startswith(SECRET)
    assert SECRET not in repr(TimerSettings())


def test_an_empty_file_is_no_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("\n")
    monkeypatch.setenv("BUBBLE_JWT_SECRET_FILE", str(path))
    with pytest.raises(ValidationError):
        EdgeSettings()
    monkeypatch.setenv("BUBBLE_DEV", "1")
    assert EdgeSettings().jwt_secret is None
    monkeypatch.setenv("BUBBLE_JWT_SECRET", SECRET)
    secret = EdgeSettings().jwt_secret
    assert secret is not None
    assert secret.get_secret_value() == SECRET


def test_a_secret_that_is_given_twice_or_can_not_be_read_is_refused_without_being_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "secret"
    monkeypatch.setenv("BUBBLE_JWT_SECRET_FILE", str(path))
    monkeypatch.setenv("BUBBLE_DEV", "1")
    with pytest.raises(ValidationError) as missing:
        EdgeSettings()
    assert describe(missing.value) == f"BUBBLE_JWT_SECRET_FILE: {path} can't be read: No such file or directory"
    path.write_bytes(SECRET.encode() + b"\xff")
    with pytest.raises(ValidationError) as binary:
        EdgeSettings()
    assert describe(binary.value) == f"BUBBLE_JWT_SECRET_FILE: {path} is not text"
    path.write_text(SECRET)
    monkeypatch.setenv("BUBBLE_JWT_SECRET", SECRET)
    with pytest.raises(ValidationError) as twice:
        EdgeSettings()
    assert describe(twice.value).startswith("BUBBLE_JWT_SECRET and BUBBLE_JWT_SECRET_FILE are both set")
    for refusal in (missing, binary, twice):
        assert SECRET not in describe(refusal.value)


@pytest.mark.parametrize("settings", EVERY_SERVICE)
def test_mongodb_needs_a_uri(settings: type[ServiceSettings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUBBLE_STORE", "mongodb")
    with pytest.raises(ValidationError) as refusal:
        settings()
    assert describe(refusal.value) == "MONGODB_URI must be set when BUBBLE_STORE is mongodb"
    monkeypatch.setenv("MONGODB_URI", "mongodb://localhost/")
    assert settings().store == "mongodb"


def test_an_edge_that_could_not_check_any_token_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValidationError) as refusal:
        EdgeSettings()
    assert "BUBBLE_JWT_SECRET or BUBBLE_JWKS_URL" in describe(refusal.value)
    for name, value in (("BUBBLE_JWT_SECRET", SECRET), ("BUBBLE_JWKS_URL", "keys.json"), ("BUBBLE_DEV", "1")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            EdgeSettings()


@pytest.mark.parametrize(
    ("settings", "name", "value"),
    [
        (TimerSettings, "BUBBLE_TIMER_PORT", SECRET),
        (TimerSettings, "BUBBLE_TIMER_PORT", "65536"),
        (TimerSettings, "BUBBLE_TIMER_PORT", "-1"),
        (TimerSettings, "BUBBLE_STORE", "postgres"),
        (TimerSettings, "BUBBLE_DRAIN_SECONDS", "-3"),
        (TimerSettings, "BUBBLE_DEV", "perhaps"),
        (TimerSettings, "BUBBLE_LOG_LEVEL", "loud"),
        (TimerSettings, "BUBBLE_MAX_TIMERS_PER_USER", "-7"),
        (SharingSettings, "BUBBLE_MAX_MEMBERS_PER_TIMER", "many"),
        (ConnectionSettings, "BUBBLE_MAX_CONNECTIONS_PER_USER", "-44"),
        (EdgeSettings, "BUBBLE_MESSAGES_PER_SECOND", "-22"),
        (EdgeSettings, "BUBBLE_PING_TIMEOUT", "0"),
        (EdgeSettings, "BUBBLE_BACKLOG_BYTES", "0"),
    ],
)
def test_a_wrong_value_is_refused_by_its_variable_name_and_never_shown(
    settings: type[ProcessSettings], name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUBBLE_JWT_SECRET", SECRET)
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as refusal:
        settings()
    line = describe(refusal.value)
    assert line.startswith(f"{name}: ")
    assert "\n" not in line
    if value not in {"0", "65536"}:  # a limit in the message may look like the value
        assert value not in line


@pytest.mark.parametrize(
    "origins",
    [
        "",
        "*",
        "https://app.example",
        " https://app.example , http://localhost:3000,",
        "https://xn--mnchen-3ya.example",
        "http://127.0.0.1:8081,http://[::1]:8081",
        "capacitor://localhost",
        "moz-extension://2c127fa4-62c7-7e4f-90e5-472b45eecfdc",
        "http://app.example:443",
    ],
)
def test_origins_are_taken_as_browsers_send_them(origins: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUBBLE_DEV", "1")
    monkeypatch.setenv("BUBBLE_ALLOWED_ORIGINS", origins)
    assert EdgeSettings().allowed_origins == origins


@pytest.mark.parametrize(
    "never_matches",
    [
        "app.example",
        "https://",
        "https://app.example/",
        "https://app.example/page",
        "https://App.example",
        "https://*.app.example",
        "https://app.example:",
        "https://app.example:443",
        "http://app.example:80",
        "https://app.example https://other.example",
        "null",
    ],
)
def test_an_origin_that_no_browser_sends_is_refused_and_not_shown(
    never_matches: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUBBLE_DEV", "1")
    monkeypatch.setenv("BUBBLE_ALLOWED_ORIGINS", f"https://good.example,{never_matches}")
    with pytest.raises(ValidationError) as refusal:
        EdgeSettings()
    line = describe(refusal.value)
    assert line.startswith("BUBBLE_ALLOWED_ORIGINS: one of them is no origin")
    assert "example" not in line


def test_every_fault_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUBBLE_TIMER_PORT", "x")
    monkeypatch.setenv("BUBBLE_DRAIN_SECONDS", "y")
    with pytest.raises(ValidationError) as refusal:
        TimerSettings()
    line = describe(refusal.value)
    assert "BUBBLE_TIMER_PORT: " in line
    assert "BUBBLE_DRAIN_SECONDS: " in line


def test_secrets_do_not_show_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUBBLE_JWT_SECRET", SECRET)
    monkeypatch.setenv("MONGODB_URI", f"mongodb://admin:{SECRET}@localhost/")
    for settings in (EdgeSettings(), TimerSettings()):
        assert SECRET not in repr(settings)
        assert SECRET not in str(settings)


def test_settings_can_not_be_changed_afterwards() -> None:
    settings = TimerSettings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.port = 1  # type: ignore[misc]
