"""What an operator's tools see of a running system."""

from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from tests.system.cluster import Cluster, Process

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scrape(process: Process) -> tuple[str, Samples]:
    """`/metrics` of a process: as text, and its values by name and labels."""
    async with aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{process.metrics_port}/metrics") as response:
            assert response.status == 200
            text = await response.text()
    samples = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    return text, samples


async def value(process: Process, name: str, **labels: str) -> float:
    """A value of a process, summed over those labels that are not given."""
    _, samples = await scrape(process)
    wanted = set(labels.items())
    return sum(each for (found, its_labels), each in samples.items() if found == name and wanted <= its_labels)


async def readiness(process: Process) -> tuple[int, dict[str, Any]]:
    """`/readyz` of a process: status and answer."""
    async with aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{process.metrics_port}/readyz") as response:
            return response.status, await response.json()


def addresses(cluster: Cluster) -> dict[str, str]:
    """The settings with which `doctor` finds a system."""
    found = {"BUBBLE_EDGE_PORT": str(cluster.edge_port)}
    for name in ("timer", "sharing", "connection"):
        process = cluster.processes[name]
        found[f"BUBBLE_{name.upper()}_ADDRESS"] = f"127.0.0.1:{process.port}"
        found[f"BUBBLE_{name.upper()}_METRICS_PORT"] = str(process.metrics_port)
    return found
