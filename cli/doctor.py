"""`python -m cli doctor`: one look at every process of the system, and what is wrong.

The processes are found by the settings they use themselves: the edge by where it listens, the services by the hosts of
their addresses and their metrics ports. A host name that stands for many replicas leads to all of them.
"""

import asyncio
import os
import socket
from collections.abc import Iterable, Mapping, Sequence

import aiohttp
import msgspec
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.errors import Problem
from cli.output import Terminal, print_json
from connection_service.config import ConnectionSettings
from edge.config import EdgeSettings
from runtime.grpc_client import split_address
from runtime.settings import describe
from sharing_service.config import SharingSettings
from timer_service.config import TimerSettings

PATIENCE = 2.0
"""Seconds a process may take to answer."""

OLD = 10.0
"""Seconds after which a change that was not delivered is a fault, not work under way."""

FULL = 0.5
"""The part of a queue from which on it is called full: an operator can do something yet."""

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104  # where to find who listens there


class Target(msgspec.Struct, frozen=True):
    """Where a process is asked. `process` is empty when only its answer will tell which one it is."""

    process: str
    host: str
    port: int

    @property
    def address(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Finding(msgspec.Struct, kw_only=True):
    """What was found out about one process. `state`: ready, degraded, not ready, or unreachable."""

    process: str
    address: str
    state: str
    version: str = ""
    build: str = ""
    store: str = ""
    connections: int | None = None
    edges_attached: int | None = None
    edges_expected: int | None = None
    pending_age_seconds: float | None = None
    problems: list[str] = msgspec.field(default_factory=list)
    notes: list[str] = msgspec.field(default_factory=list)


class Samples:
    """The metrics of one process."""

    def __init__(self, text: str) -> None:
        self._samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self._samples.setdefault(sample.name, []).append((sample.labels, sample.value))

    def value(self, name: str) -> float | None:
        """The value of a metric without labels; None when the process does not have it."""
        found = self._samples.get(name)
        return found[0][1] if found else None

    def count(self, name: str) -> int | None:
        """The same as a whole number."""
        value = self.value(name)
        return None if value is None else round(value)

    def by_label(self, name: str, label: str) -> dict[str, float]:
        """The values of a metric by one of its labels."""
        return {labels[label]: value for labels, value in self._samples.get(name, [])}

    def labels(self, name: str) -> Mapping[str, str]:
        """The labels of the first sample of a metric."""
        found = self._samples.get(name)
        return found[0][0] if found else {}


def main(further: Sequence[str], *, as_json: bool) -> int:
    """Examines, prints, and returns the exit code. Raises Problem for wrong settings and addresses."""
    try:
        findings = asyncio.run(examine(further))
    except ValidationError as error:
        raise Problem(f"Wrong settings: {describe(error)}.") from error
    except ValueError as error:
        raise Problem(f"{error}.") from error
    well = all_is_well(findings)
    if as_json:
        print_json({"well": well, "processes": findings})
    else:
        show(findings, Terminal())
    return 0 if well else 1


async def examine(further: Sequence[str]) -> list[Finding]:
    """Asks every process once. `further`: `host:port` of processes that the settings do not lead to. Raises ValueError for
    addresses that are none.
    """
    targets = await find(further)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE)) as http:
        findings = list(await asyncio.gather(*(_ask(http, target) for target in targets)))
    _compare(findings)
    return findings


async def find(further: Sequence[str]) -> list[Target]:
    """Where the processes are."""
    # What these settings demand for other purposes (a way to check tokens, a database) does not matter here.
    edge = EdgeSettings(BUBBLE_DEV=True)

    def metrics_port(settings: type[TimerSettings | SharingSettings | ConnectionSettings]) -> int:
        return settings(BUBBLE_STORE="sqlite").metrics_port

    targets = [Target("edge", host, edge.port) for host in await _resolve([edge.host])]
    for name, addresses, port in (
        ("timer", edge.timer_address, metrics_port(TimerSettings)),
        ("sharing", edge.sharing_address, metrics_port(SharingSettings)),
        ("connection", edge.connection_address, metrics_port(ConnectionSettings)),
    ):
        hosts = [split_address(address)[0] for address in addresses.split(",")]
        targets += [Target(name, host, port) for host in await _resolve(hosts)]
    for address in further:
        host, port = split_address(address)
        targets += [Target("", each, port) for each in await _resolve([host])]
    by_address: dict[str, Target] = {}
    for target in targets:
        by_address.setdefault(target.address, target)
    return list(by_address.values())


async def _resolve(hosts: Iterable[str]) -> list[str]:
    """The addresses behind host names; a name that is unknown stays, and will be found unreachable."""
    loop = asyncio.get_running_loop()
    found: dict[str, None] = {}
    for name in hosts:
        host = _EVERYWHERE.get(name, name)
        try:
            infos = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError:
            found[host] = None
            continue
        family = min(info[0] for info in infos)  # one only: the same process under two addresses would be two
        found |= dict.fromkeys(sorted({str(info[4][0]) for info in infos if info[0] == family}))
    return list(found)


async def _ask(http: aiohttp.ClientSession, target: Target) -> Finding:
    try:
        async with http.get(f"http://{target.address}/readyz") as response:
            readiness = msgspec.json.decode(await response.read(), type=dict[str, object])
        async with http.get(f"http://{target.address}/metrics") as response:
            response.raise_for_status()
            samples = Samples(await response.text())
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return _unreachable(target, error)
    return diagnose(target, readiness, samples)


def _unreachable(target: Target, error: Exception) -> Finding:
    setting = "BUBBLE_EDGE_PORT" if target.process == "edge" else f"BUBBLE_{target.process.upper()}_METRICS_PORT"
    where = f", or does {setting} differ" if target.process else ""
    return Finding(
        process=target.process or "?",
        address=target.address,
        state="unreachable",
        problems=[f"{_why(error)}: does it run{where}? If it ends by itself, its log says why"],
    )


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {PATIENCE:g} s"
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno:
        return os.strerror(error.os_error.errno).lower()
    return str(error) or type(error).__name__


def diagnose(target: Target, readiness: Mapping[str, object], samples: Samples) -> Finding:
    """What one process's answers mean. Pure."""
    build = samples.labels("bubble_build_info")
    finding = Finding(
        process=build.get("service") or target.process or "?",
        address=target.address,
        state=str(readiness.get("status", "not ready")),
        version=build.get("version", ""),
        build=build.get("build", ""),
        store=build.get("store", ""),
        pending_age_seconds=samples.value("bubble_outbox_pending_age_seconds"),
    )
    problems = finding.problems
    if not build:
        problems.append("it is no process of this system: something else listens there")
    if finding.state != "ready":
        problems.append(str(readiness.get("reason", "it does not say why")))
    degraded = readiness.get("degraded")
    if isinstance(degraded, dict) and degraded:
        finding.state = "degraded" if finding.state == "ready" else finding.state
        problems.extend(f"can't use {name}: {fault}" for name, fault in degraded.items())
    if finding.pending_age_seconds is not None and finding.pending_age_seconds > OLD:
        waiting = samples.count("bubble_outbox_pending_items") or 0
        problems.append(
            f"{waiting} changes are not delivered, the oldest for {finding.pending_age_seconds:.0f} s: "
            "an edge does not take them over, or the connection service is away"
        )
    if finding.process == "connection":
        _look_at_edges(finding, samples)
    if finding.process == "edge":
        _look_at_streams(finding, samples)
    limits = samples.by_label("bubble_queue_limit_items", "queue")
    for queue, waiting_items in samples.by_label("bubble_queue_items", "queue").items():
        if waiting_items > FULL * limits.get(queue, float("inf")):
            problems.append(f"the queue {queue} is {waiting_items / limits[queue]:.0%} full: what is behind it is slow")
    if samples.value("bubble_clock_skew_total"):
        finding.notes.append("clocks of the machines differ, or did since it was started: is time synchronised?")
    return finding


def _look_at_edges(finding: Finding, samples: Samples) -> None:
    finding.connections = samples.count("bubble_connection_connections")
    attached = finding.edges_attached = samples.count("bubble_connection_edges_attached") or 0
    leases = finding.edges_expected = samples.count("bubble_connection_leases") or 0
    suspect = samples.count("bubble_connection_edges_suspect") or 0
    if attached < leases:
        finding.problems.append(
            f"{leases - attached} of {leases} edges hold a lease without being attached: they died within 15 s, "
            "or can't reach this replica"
        )
    if not leases:
        finding.problems.append("no edge holds a lease: none runs, or none can reach this service")
    if suspect:
        finding.problems.append(f"{suspect} edges are slow to take events over: look at their event loop and CPU")


def _look_at_streams(finding: Finding, samples: Samples) -> None:
    finding.connections = samples.count("bubble_edge_connections")
    attached = finding.edges_attached = samples.count("bubble_edge_streams_attached") or 0
    found = finding.edges_expected = samples.count("bubble_edge_streams") or 0
    if attached < found:
        finding.problems.append(f"attached to {attached} of {found} replicas of the connection service")
    congested = samples.count("bubble_edge_congested_connections")
    if congested:
        finding.notes.append(f"{congested} connections take no bytes: slow networks, or phones that sleep")


def _compare(findings: Sequence[Finding]) -> None:
    """What no process can know of itself."""
    stores = {finding.store for finding in findings if finding.store}
    versions = {(finding.version, finding.build) for finding in findings if finding.version}
    for finding in findings:
        if len(stores) > 1 and finding.store:
            finding.problems.append("not all services use the same kind of store")
        if len(versions) > 1 and finding.version:
            which = ", build ".join(filter(None, (finding.version, finding.build)))
            finding.notes.append(f"not all processes run the same version: this one runs {which}")


def all_is_well(findings: Sequence[Finding]) -> bool:
    """Whether nothing needs anybody's attention."""
    return not any(finding.problems for finding in findings)


def show(findings: Sequence[Finding], console: Console) -> None:
    """Prints the findings for a person: a table of what there is, and below it what is wrong, in sentences."""
    console.print(_table(findings))
    builds = {finding.build for finding in findings if finding.version}
    if len(builds) == 1 and (build := builds.pop()):  # several are told in the notes
        console.print(f"All run the build {escape(build)}.", highlight=False)
    for finding in findings:
        for mark, texts in (("[red]wrong[/]", finding.problems), ("[yellow]note[/]", finding.notes)):
            for text in texts:
                console.print(f"{mark}  {finding.process} {escape(finding.address)}: {escape(text)}", highlight=False)
    if all_is_well(findings):
        console.print("[green]All is well.[/]")


def _table(findings: Sequence[Finding]) -> Table:
    # Fits into 80 columns: builds, which are long, are told below, and addresses are folded when they are, as with IPv6.
    table = Table(header_style="bold", box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    for column in ("process", "address", "version", "health", "store", "sockets", "edges", "pending"):
        table.add_column(column, overflow="fold", no_wrap=column != "address", min_width=len(column))
    colours = {"ready": "green", "degraded": "yellow"}
    for finding in findings:
        age = finding.pending_age_seconds
        table.add_row(
            finding.process,
            escape(finding.address),
            escape(finding.version),
            f"[{colours.get(finding.state, 'red')}]{finding.state}[/]",
            finding.store,
            "" if finding.connections is None else str(finding.connections),
            "" if finding.edges_attached is None else f"{finding.edges_attached} of {finding.edges_expected}",
            "" if age is None else f"{age:.1f} s",
        )
    return table
