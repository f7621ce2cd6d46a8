"""README.md's table of settings, against the settings themselves."""

import re
from pathlib import Path

import pytest
from pydantic import SecretStr

from connection_service.config import ConnectionSettings
from edge.config import EdgeSettings
from runtime.settings import ProcessSettings, environment_names
from sharing_service.config import SharingSettings
from tests.docs.pages import ROOT, table_after
from timer_service.config import TimerSettings

PROCESSES: dict[str, type[ProcessSettings]] = {
    "edge": EdgeSettings,
    "timer": TimerSettings,
    "sharing": SharingSettings,
    "connection": ConnectionSettings,
}
SERVICES = {"timer", "sharing", "connection"}

Row = list[str]


def rows() -> dict[str, Row]:
    """The table, by variable."""
    listed = table_after("README.md", "settings: checked by tests/docs")
    table = {row[0].strip("`"): row for row in listed}
    assert len(table) == len(listed)
    return table


def readers(variable: str) -> dict[str, str]:
    """The processes that read a variable, with the name of the field there."""
    return {
        process: names[variable]
        for process, settings in PROCESSES.items()
        if variable in (names := environment_names(settings))
    }


def as_written(default: object) -> str:
    """A default as the table has it."""
    if isinstance(default, bool):
        return "on" if default else "off"
    if default is None or default == "":
        return "unset"
    assert isinstance(default, int | float | str | Path), default
    assert not isinstance(default, SecretStr)
    return f"`{str(default).removesuffix('.0')}`"


def test_the_table_has_every_variable_and_no_other() -> None:
    variables = {name for settings in PROCESSES.values() for name in environment_names(settings)}
    assert set(rows()) == variables


def test_defaults_and_meanings_are_those_of_the_settings() -> None:
    for variable, (_, default, _, meaning) in rows().items():
        fields = [PROCESSES[process].model_fields[field] for process, field in readers(variable).items()]
        assert {as_written(field.default) for field in fields} == {default}, variable
        assert meaning in {field.description for field in fields}, variable


def test_the_table_says_which_processes_read_a_variable() -> None:
    for variable, (_, _, read_by, _) in rows().items():
        if read_by == "all":
            expected = set(PROCESSES)
        elif read_by == "services":
            expected = SERVICES
        else:
            expected = set(read_by.split(", "))
        assert expected == set(readers(variable)), variable


@pytest.mark.parametrize("path", [".env.example", "docker-compose.yml", "deploy/scale.yml", "Dockerfile"])
def test_containers_are_given_known_variables_only(path: str) -> None:
    named = set(re.findall(r"\b(?:BUBBLE|MONGODB|OTEL)_[A-Z_]+", (ROOT / path).read_text()))
    assert named <= set(rows())
