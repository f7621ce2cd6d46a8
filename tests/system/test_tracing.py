"""One trace tells the whole story: from the phone's message through all services to the ack of the other phone."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest

from runtime import semconv
from tests.system.client import Client, Message, eventually
from tests.system.cluster import Cluster
from tests.system.collector import Collector, Edge, Span, broken, by_trace, collecting

Start = Callable[..., Any]
Unique = Callable[[str], str]

TYPES = {kind.name: kind for kind in semconv.SPANS}

WRITE = [
    Edge("edge", "ws.receive", None),
    Edge("timer", "timer.write", "ws.receive"),
    Edge("sharing", "sharing.authorize", "timer.write"),
    Edge("sharing", "store.load", "sharing.authorize"),
    Edge("timer", "store.save", "timer.write"),
]
DELIVERY = [
    Edge("connection", "connection.deliver", "outbox.deliver"),
    Edge("edge", "ws.send", "connection.deliver"),
]
UPDATE = [*WRITE, Edge("timer", "outbox.deliver", "timer.write"), *DELIVERY]
# Only what the service does not remember is read.
CREATE = [*UPDATE, Edge("timer", "store.load", "timer.write"), Edge("sharing", "store.save", "sharing.authorize")]
TO_ONE = Edge("edge", "ws.deliver", "ws.send")
TO_ONE_LOADED = [Edge("edge", "ws.load", "ws.send"), Edge("edge", "ws.deliver", "ws.load")]
SHARE = [
    Edge("edge", "ws.receive", None),
    Edge("sharing", "sharing.change", "ws.receive"),
    Edge("sharing", "store.load", "sharing.change"),
    Edge("sharing", "store.save", "sharing.change"),
    Edge("edge", "ws.load", "ws.receive"),
    Edge("sharing", "outbox.deliver", "sharing.change"),
    *DELIVERY,
]


def shape(*parts: Edge | list[Edge], root: str | None = None) -> list[Edge]:
    """The edges of a whole trace; `root`: what is above the first span."""
    edges = [edge for part in parts for edge in (part if isinstance(part, list) else [part])]
    return sorted((edge._replace(parent=root) if edge.name == "ws.receive" else edge for edge in edges), key=str)


class Traced:
    """A message's context as a client makes it."""

    def __init__(self, flags: str = "01") -> None:
        self.trace_id = secrets.token_hex(16)
        self.span_id = secrets.token_hex(8)
        self.traceparent = f"00-{self.trace_id}-{self.span_id}-{flags}"


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    """A running collector."""
    async with collecting() as running:
        yield running


async def acknowledge(client: Client, delivery: Message) -> str:
    """Acks a delivery from within a span of the client's, as the page does; returns that span's id."""
    version, trace_id, _, flags = delivery["traceparent"].split("-")
    span_id = secrets.token_hex(8)
    await client.send(
        type="ack", messageId=delivery["messageId"], traceparent=f"{version}-{trace_id}-{span_id}-{flags}"
    )
    return span_id


async def complete(collector: Collector, trace_id: str, expected: list[Edge]) -> None:
    """Waits until a trace has as many spans as expected, and then a moment for one too many; compares them all."""
    await eventually(lambda: len(collector.of(trace_id)) >= len(expected), within=15)
    await asyncio.sleep(0.3)
    assert collector.edges(trace_id) == expected
    for span in collector.of(trace_id):
        kind = TYPES[span.name]
        assert span.attributes.keys() <= {*kind.constants, *kind.attributes}, span
        assert kind.constants.items() <= span.attributes.items(), span


async def test_one_trace_goes_from_one_phones_message_to_the_other_phones_ack(
    own_cluster: Start, collector: Collector, unique: Unique
) -> None:
    cluster: Cluster = await own_cluster(**collector.settings)
    alice, bob, tea = unique("alice"), unique("bob"), unique("tea")
    created, shared, started, removed = Traced(), Traced(), Traced(), Traced()
    async with (
        Client(cluster.edge_port, alice, "phone") as phone,
        Client(cluster.edge_port, alice, "tablet") as tablet,
        Client(cluster.edge_port, bob, "pixel") as pixel,
    ):
        await phone.done(
            type="timer", action="update", timer={"id": tea, "totalDuration": "PT5M"}, traceparent=created.traceparent
        )
        await acknowledge(tablet, await tablet.expect(lambda m: m.get("type") == "timer"))
        await complete(collector, created.trace_id, shape(CREATE, TO_ONE, root="?"))

        await phone.done(type="share", action="add", timerId=tea, sharedWithUser=bob, traceparent=shared.traceparent)
        await acknowledge(pixel, await pixel.expect(lambda m: m.get("type") == "share"))
        await acknowledge(tablet, await tablet.expect(lambda m: m.get("type") == "timer"))
        # Both connections need the timer as it is now: one read, told to both.
        await complete(collector, shared.trace_id, shape(SHARE, TO_ONE_LOADED, TO_ONE_LOADED[1], root="?"))

        reply = await phone.done(
            type="timer", action="start", timerId=tea, messageId="m-start", traceparent=started.traceparent
        )
        delivery = await pixel.expect(lambda m: m.get("type") == "timer")
        assert delivery["traceparent"][3:35] == started.trace_id
        ack_span = await acknowledge(pixel, delivery)
        await acknowledge(tablet, await tablet.expect(lambda m: m.get("type") == "timer"))
        await complete(collector, started.trace_id, shape(UPDATE, TO_ONE, TO_ONE, root="?"))

        await phone.done(
            type="share", action="remove", timerId=tea, sharedWithUser=bob, traceparent=removed.traceparent
        )
        await acknowledge(pixel, await pixel.expect(lambda m: m.get("type") == "share"))
        await acknowledge(tablet, await tablet.expect(lambda m: m.get("type") == "timer"))
        await complete(collector, removed.trace_id, shape(SHARE, TO_ONE, TO_ONE_LOADED, root="?"))

    assert not [span for span in collector.spans if span.failed]
    version = reply["version"]
    receive = collector.one(started.trace_id, "ws.receive")
    assert receive.parent_id == started.span_id
    assert (
        receive.attributes
        | {
            "bubble.action": "timer.start",
            "user.id": alice,
            "device.id": "phone",
            "bubble.connection.id": phone.connected["connectionId"],
            "messaging.message.id": "m-start",
            "bubble.timer.id": tea,
            "bubble.timer.version": version,
        }
        == receive.attributes
    )
    write = collector.one(started.trace_id, "timer.write")
    assert (write.attributes["bubble.timer.version"], write.attributes["user.id"]) == (version, alice)
    assert collector.one(started.trace_id, "sharing.authorize").attributes["bubble.role"] == "owner"
    assert "audience read" in collector.one(started.trace_id, "outbox.deliver").events
    route = collector.one(started.trace_id, "connection.deliver").attributes
    assert (route["bubble.delivery.connections"], route["bubble.delivery.outcome"]) == (2, "delivered")
    assert route["bubble.delivery.edges"] == [receive.attributes["bubble.edge.id"]]
    send = collector.one(started.trace_id, "ws.send")
    assert delivery["traceparent"] == f"00-{started.trace_id}-{send.span_id}-01"
    assert send.attributes["bubble.delivery.sent"] == 2
    deliver = collector.one(started.trace_id, "ws.deliver", user__id=bob)
    assert (
        deliver.attributes
        | {
            "device.id": "pixel",
            "bubble.connection.id": pixel.connected["connectionId"],
            "bubble.edge.id": receive.attributes["bubble.edge.id"],
            "messaging.message.id": delivery["messageId"],
            "bubble.timer.id": tea,
            "bubble.timer.version": version,
            "bubble.delivery.outcome": "acked",
        }
        == deliver.attributes
    )
    # The phone's own span, within which it sent the ack, is linked to: it may be recorded elsewhere.
    assert deliver.links == ((started.trace_id, ack_span),)
    # What else there is: outboxes and the like of messages without a client's context, all whole.
    clients = {created.span_id, shared.span_id, started.span_id, removed.span_id}
    clients |= {link[1] for span in collector.spans if span.name == "ws.deliver" for link in span.links}
    assert broken(collector.spans, clients) == []


async def test_a_message_without_a_context_begins_a_trace_and_its_deliveries_bring_it(
    own_cluster: Start, collector: Collector, unique: Unique
) -> None:
    cluster: Cluster = await own_cluster(**collector.settings)
    alice, tea = unique("alice"), unique("tea")
    async with Client(cluster.edge_port, alice, "phone") as phone, Client(cluster.edge_port, alice, "tv") as tv:
        await phone.done(type="timer", action="update", timer={"id": tea})
        delivery = await tv.expect(lambda m: m.get("type") == "timer")
        await tv.send(type="ack", messageId=delivery["messageId"])  # without a context of its own
        trace_id = delivery["traceparent"][3:35]
        await complete(collector, trace_id, shape(CREATE, TO_ONE))
    assert collector.one(trace_id, "ws.deliver").links == ()
    assert broken(collector.spans) == []


def above_delivery(collector: Collector, trace_id: str) -> list[Span]:
    """The span of an acknowledged delivery and those above it, as far as their processes have exported them yet."""
    by_id = {span.span_id: span for span in collector.of(trace_id)}
    above = [
        span
        for span in by_id.values()
        if span.name == "ws.deliver" and span.attributes["bubble.delivery.outcome"] == "acked"
    ]
    while above and above[-1].parent_id in by_id:
        above.append(by_id[above[-1].parent_id])
    return above


async def test_the_sweepers_delivery_goes_on_in_the_original_trace_and_says_that_it_is_a_repetition(
    own_cluster: Start, collector: Collector, unique: Unique
) -> None:
    cluster: Cluster = await own_cluster(**collector.settings)
    alice, tea, traced = unique("alice"), unique("tea"), Traced()
    async with Client(cluster.edge_port, alice, "phone") as phone, Client(cluster.edge_port, alice, "tv") as tv:
        await phone.done(type="timer", action="update", timer={"id": tea, "totalDuration": "PT5M"})
        await tv.update(tea)
        await cluster.processes["connection"].kill()
        reply = await phone.done(type="timer", action="start", timerId=tea, traceparent=traced.traceparent)
        # The process that would have delivered it dies, too: its successor finds the marker.
        await cluster.processes["timer"].kill()
        await cluster.processes["timer"].start()
        await cluster.processes["connection"].start()
        delivery = await tv.expect(
            lambda m: m.get("type") == "timer" and m["timer"]["version"] == reply["version"], within=30
        )
        assert delivery["traceparent"][3:35] == traced.trace_id
        await acknowledge(tv, delivery)
        # timer.write itself died with its process, if it was not sent yet; its id is known all the same.
        await eventually(lambda: len(above_delivery(collector, traced.trace_id)) >= 4, within=10)
    above = above_delivery(collector, traced.trace_id)
    assert [span.name for span in above][:4] == ["ws.deliver", "ws.send", "connection.deliver", "outbox.deliver"]
    assert above[3].attributes["bubble.delivery.retry"] is True


@pytest.mark.one_store
async def test_every_refusal_has_a_span_with_the_trace_id_that_the_client_was_told(
    own_cluster: Start, collector: Collector, unique: Unique
) -> None:
    cluster: Cluster = await own_cluster(
        **collector.settings, OTEL_TRACES_SAMPLER="parentbased_always_off", BUBBLE_LOG_LEVEL="debug"
    )
    alice, bob, tea = unique("alice"), unique("bob"), unique("tea")
    mine = Traced("00")
    async with Client(cluster.edge_port, alice, "phone") as phone, Client(cluster.edge_port, bob, "pixel") as pixel:
        await phone.done(type="timer", action="update", timer={"id": tea})
        stranger = await pixel.ask(type="timer", action="stop", timerId=tea)
        unknown = await phone.ask(type="timer", action="explode")
        named = await phone.ask(type="timer", action="extend", timerId=tea, by="?", traceparent=mine.traceparent)
        garbled = await phone.ask(type="timer", action="update", timer=7, traceparent=mine.traceparent)
        await phone.socket.send("{")
        broken_json = await phone.expect(lambda m: m.get("code") == 400)
        replies = [stranger, unknown, named, garbled, broken_json]
        assert [reply["code"] for reply in replies] == [403, 400, 400, 400, 400]
        assert all(len(reply["traceId"]) == 32 for reply in replies)
        assert named["traceId"] == garbled["traceId"] == mine.trace_id
        assert len({reply["traceId"] for reply in replies}) == 4
        await eventually(lambda: len(collector.spans) >= 5, within=10)
    assert {span.name for span in collector.spans} == {"ws.receive"}
    assert all(span.failed and span.attributes["bubble.trace.partial"] for span in collector.spans)
    refusal = collector.one(stranger["traceId"], "ws.receive")
    assert refusal.parent_id == ""
    assert refusal.reason == stranger["error"]
    assert (
        refusal.attributes
        | {
            "error.type": "403",
            "user.id": bob,
            "device.id": "pixel",
            "bubble.timer.id": tea,
            "bubble.action": "timer.stop",
        }
        == refusal.attributes
    )
    assert refusal.end > refusal.start
    assert {span.parent_id for span in collector.of(mine.trace_id)} == {mine.span_id}


@pytest.mark.one_store
async def test_named_users_and_devices_are_traced_whatever_the_sampler_says_and_others_may_ask(
    own_cluster: Start, collector: Collector, unique: Unique
) -> None:
    alice, bob, tea = unique("alice"), unique("bob"), unique("tea")
    cluster: Cluster = await own_cluster(
        **collector.settings,
        OTEL_TRACES_SAMPLER="parentbased_traceidratio",
        OTEL_TRACES_SAMPLER_ARG="0",
        BUBBLE_TRACE_USERS=f"nobody, {alice}",
        BUBBLE_TRACE_DEVICES="odd-phone",
    )
    asked, left_to_the_server = Traced(), Traced("00")
    async with (
        Client(cluster.edge_port, alice, "phone") as named_user,
        Client(cluster.edge_port, bob, "odd-phone") as named_device,
        Client(cluster.edge_port, bob, "pixel") as other,
    ):
        await named_user.done(type="timer", action="update", timer={"id": tea})
        await named_device.done(type="timer", action="update", timer={"id": f"{tea}-1"})
        delivery = await other.expect(lambda m: m.get("type") == "timer")
        assert "traceparent" in delivery
        await other.done(type="timer", action="update", timer={"id": f"{tea}-2"}, traceparent=asked.traceparent)
        await other.done(
            type="timer", action="update", timer={"id": f"{tea}-3"}, traceparent=left_to_the_server.traceparent
        )
        await other.done(type="timer", action="update", timer={"id": f"{tea}-4"})
        untraced = await named_device.expect(lambda m: m.get("type") == "timer" and m["timer"]["id"] == f"{tea}-4")
        assert "traceparent" not in untraced
    await cluster.stop()
    traced = {span.attributes["bubble.timer.id"] for span in collector.spans if span.name == "ws.receive"}
    assert traced == {tea, f"{tea}-1", f"{tea}-2"}
    assert {span.name for span in collector.of(asked.trace_id)} >= {"ws.receive", "timer.write", "outbox.deliver"}
    assert collector.of(left_to_the_server.trace_id) == []


@pytest.mark.one_store
async def test_clients_can_not_ask_when_the_sampler_does_not_listen_to_them(
    own_cluster: Start, collector: Collector, unique: Unique
) -> None:
    cluster: Cluster = await own_cluster(**collector.settings, OTEL_TRACES_SAMPLER="always_off")
    async with Client(cluster.edge_port, unique("alice"), "phone") as phone:
        await phone.done(type="timer", action="update", timer={"id": unique("tea")}, traceparent=Traced().traceparent)
    await cluster.stop()
    assert collector.spans == []


@pytest.mark.one_store
async def test_a_delivery_that_is_never_acknowledged_says_so(
    own_cluster: Start, collector: Collector, unique: Unique
) -> None:
    cluster: Cluster = await own_cluster(**collector.settings)
    alice, tea = unique("alice"), unique("tea")
    first, second = Traced(), Traced()
    async with Client(cluster.edge_port, alice, "phone") as phone:
        async with Client(cluster.edge_port, alice, "tv") as tv:
            await phone.done(type="timer", action="update", timer={"id": tea}, traceparent=first.traceparent)
            await tv.update(tea)
            await eventually(lambda: "ws.deliver" in [span.name for span in collector.of(first.trace_id)], within=20)
            await phone.done(type="timer", action="stop", timerId=tea, traceparent=second.traceparent)
            await tv.expect(lambda m: m.get("action") == "stop")
        await eventually(lambda: "ws.deliver" in [span.name for span in collector.of(second.trace_id)], within=10)
    no_ack = collector.one(first.trace_id, "ws.deliver")
    assert (no_ack.failed, no_ack.attributes["bubble.delivery.outcome"]) == (True, "no_ack")
    assert no_ack.end - no_ack.start >= 10_000_000_000
    closed = collector.one(second.trace_id, "ws.deliver")
    assert (closed.failed, closed.attributes["bubble.delivery.outcome"]) == (True, "closed")


GROUPS, UPDATES = 20, 50


async def test_a_thousand_traces_under_load_are_whole(
    own_cluster: Start, collector: Collector, unique: Unique, store_environment: dict[str, str]
) -> None:
    """Whole is a trace when each step of its message is in it, and leads to the one before.

    A step that was done for one message is a child of the step before. A step that was done once for a batch of many is a
    span of another trace, with a link to the step before of each of its messages: calls of a store, and `outbox.deliver`. A
    message may also end early, when a newer state of its timer takes its place; then the trace says where.
    """
    if store_environment["BUBBLE_STORE"] == "mongodb":
        pytest.skip("what stands in for MongoDB may not carry this load; the tests above look at its traces")
    cluster: Cluster = await own_cluster(**collector.settings, BUBBLE_MESSAGES_PER_SECOND="0")
    async with AsyncExitStack() as stack:
        pairs = [
            [
                await stack.enter_async_context(Client(cluster.edge_port, unique(f"u{number}"), device))
                for device in ("a", "b")
            ]
            for number in range(GROUPS)
        ]
        sent: dict[str, str] = {}
        readers = [asyncio.create_task(_acknowledge_all(reader)) for _, reader in pairs]

        async def write(writer: Client, number: int) -> None:
            traced = Traced()
            sent[traced.trace_id] = traced.span_id
            timer = {"id": unique(f"{writer.user}-{number % 10}"), "totalDuration": "PT5M"}
            await writer.done(type="timer", action="update", timer=timer, traceparent=traced.traceparent)

        for start in range(0, UPDATES, 10):
            await asyncio.gather(*(write(writer, start + number) for writer, _ in pairs for number in range(10)))
        await eventually(lambda: len({s.trace_id for s in collector.spans if s.name == "ws.deliver"}) >= 990, within=20)
        await asyncio.sleep(1)
        for reader in readers:
            reader.cancel()
    await cluster.stop()
    assert len(sent) == GROUPS * UPDATES
    clients = {*sent.values(), *(link[1] for s in collector.spans if s.name == "ws.deliver" for link in s.links)}
    assert broken(collector.spans, clients) == []
    traces = by_trace(collector.spans)
    links = {(trace_id, span_id, span.name) for span in collector.spans for trace_id, span_id in span.links}
    gaps = {trace_id: gap for trace_id in sent if (gap := _gap(traces.get(trace_id, []), links))}
    assert len(gaps) <= len(sent) // 100, list(gaps.values())[:20]
    assert max(span.attributes["bubble.batch.size"] for span in collector.spans if span.name == "timer.write") > 1


async def _acknowledge_all(reader: Client) -> None:
    while True:
        await acknowledge(reader, await reader.expect(lambda m: m.get("type") == "timer", within=60))


def _gap(spans: list[Span], links: set[tuple[str, str, str]]) -> str:
    """Which step is missing in a trace; nothing when it is whole."""
    by_name: dict[str, Span] = {span.name: span for span in spans}

    def leads_to(name: str, before: str) -> bool:
        """Whether a step is there, below the one before, or in another trace with a link to that."""
        parent = by_name[before]
        below = any(span.name == name and span.parent_id == parent.span_id for span in spans)
        return below or (parent.trace_id, parent.span_id, name) in links

    steps = [
        ("timer.write", "ws.receive"),
        ("sharing.authorize", "timer.write"),
        ("store.load", "sharing.authorize"),
        ("store.save", "timer.write"),
    ]
    if "ws.receive" not in by_name:
        return "ws.receive"
    for name, before in steps:
        if before not in by_name or not leads_to(name, before):
            return f"{before} -> {name}"
    if "bubble.timer.replaced_by" in by_name["timer.write"].attributes or "outbox.replaced" in by_name:
        return ""
    if not leads_to("outbox.deliver", "timer.write"):
        return "timer.write -> outbox.deliver"
    route = by_name.get("connection.deliver")
    if route is None or route.parent_id not in {
        by_name[n].span_id for n in ("outbox.deliver", "timer.write") if n in by_name
    }:
        return "-> connection.deliver"
    if not leads_to("ws.send", "connection.deliver"):
        return "connection.deliver -> ws.send"
    if by_name["ws.send"].attributes["bubble.delivery.sent"] == 0:
        return ""  # overtaken by a newer state on the way
    if not leads_to("ws.deliver", "ws.send"):
        return "ws.send -> ws.deliver"
    outcome = by_name["ws.deliver"].attributes["bubble.delivery.outcome"]
    return "" if outcome in ("acked", "replaced") else f"ws.deliver {outcome}"


async def test_spans_are_not_lost_when_the_processes_end(
    own_cluster: Start, collector: Collector, unique: Unique
) -> None:
    cluster: Cluster = await own_cluster(**collector.settings | {"OTEL_BSP_SCHEDULE_DELAY": "60000"})
    async with Client(cluster.edge_port, unique("alice"), "phone") as phone:
        await asyncio.gather(
            *(phone.done(type="timer", action="update", timer={"id": unique(f"t{number}")}) for number in range(20))
        )
    assert set((await cluster.stop()).values()) == {0}
    traces = {span.trace_id for span in collector.spans if span.name == "ws.receive"}
    assert len(traces) == 20
    for trace_id in traces:
        assert {span.name for span in collector.of(trace_id)} >= {"ws.receive", "timer.write", "sharing.authorize"}
    assert broken(collector.spans) == []


@pytest.mark.one_store
async def test_a_collector_that_is_away_neither_delays_an_end_nor_fills_the_log(
    own_cluster: Start, unique: Unique
) -> None:
    async with collecting() as gone:
        settings = gone.settings
    cluster: Cluster = await own_cluster(**settings, OTEL_BSP_MAX_QUEUE_SIZE="50", BUBBLE_MESSAGES_PER_SECOND="0")
    async with Client(cluster.edge_port, unique("alice"), "phone") as phone:
        for number in range(100):
            await phone.done(type="timer", action="update", timer={"id": unique(f"t{number}")})
    assert set((await cluster.stop()).values()) == {0}
    for process in cluster.processes.values():
        about_spans = [line for line in process.lines() if "span" in line["event"]]
        assert {line["level"] for line in about_spans} <= {"warning"}
        assert len(about_spans) <= 15
    (lost,) = [line for line in cluster.processes["timer"].lines() if line["event"] == "spans lost"]
    assert lost["dropped"] + lost["failed"] >= 100
