"""`connection_service/fcm.py` against a local fake of Google's APIs."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import msgspec
import pytest
from aiohttp import web

from connection_service.config import ConnectionSettings
from connection_service.fcm import LONGEST_RETRY_AFTER, FcmSender, read_credentials
from connection_service.push_sender import Attempt, Message, Outcome
from tests.system.fake_fcm import FakeFcm, fake_fcm, fault

MESSAGE = Message(token="device-1", timer_id="tea", timer_name="Tea 🍵", sharer_name="alice")


@pytest.fixture
async def fcm() -> AsyncIterator[FakeFcm]:
    async with fake_fcm() as running:
        yield running


@pytest.fixture
async def sender(fcm: FakeFcm) -> AsyncIterator[FcmSender]:
    async with FcmSender(read_credentials(fcm.credentials), fcm.url) as running:
        yield running


async def test_a_data_message_is_sent_with_texts_only(fcm: FakeFcm, sender: FcmSender) -> None:
    assert await sender.send(MESSAGE) == Attempt(outcome=Outcome.ACCEPTED)
    (message,) = fcm.accepted
    assert message["token"] == "device-1"
    assert message["data"] == {"timerId": "tea", "timerName": "Tea 🍵", "sharerName": "alice", "action": "accept"}
    assert "notification" not in message  # the app shows it itself


async def test_one_access_token_serves_many_messages_also_at_once(fcm: FakeFcm, sender: FcmSender) -> None:
    attempts = await asyncio.gather(*(sender.send(MESSAGE) for _ in range(20)))
    assert {attempt.outcome for attempt in attempts} == {Outcome.ACCEPTED}
    assert fcm.tokens_given == 1


async def test_an_access_token_that_is_refused_is_replaced_for_the_next_attempt(
    fcm: FakeFcm, sender: FcmSender
) -> None:
    await sender.send(MESSAGE)
    fcm.good_tokens.clear()
    assert (await sender.send(MESSAGE)).outcome is Outcome.FAILED
    assert (await sender.send(MESSAGE)).outcome is Outcome.ACCEPTED
    assert fcm.tokens_given == 2


async def test_an_unregistered_token_is_told_apart_from_other_faults(fcm: FakeFcm, sender: FcmSender) -> None:
    fcm.answers = [
        fault(404, "UNREGISTERED", name="NOT_FOUND"),
        fault(400, "INVALID_ARGUMENT"),
        fault(403, "SENDER_ID_MISMATCH", name="PERMISSION_DENIED"),
        fault(404, "", name="NOT_FOUND"),  # the project or the address: not the token's fault
        fault(500, "INTERNAL"),
    ]
    outcomes = [(await sender.send(MESSAGE)).outcome for _ in range(5)]
    assert outcomes == [Outcome.UNREGISTERED, Outcome.REFUSED, Outcome.REFUSED, Outcome.FAILED, Outcome.FAILED]


async def test_what_it_says_of_when_to_come_back_is_heard(fcm: FakeFcm, sender: FcmSender) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=120), usegmt=True)
    fcm.answers = [
        fault(503, "UNAVAILABLE", retry_after="7"),
        fault(429, "QUOTA_EXCEEDED", retry_after=soon),
        fault(429, "QUOTA_EXCEEDED"),
        fault(503, "UNAVAILABLE", retry_after="nonsense"),
        fault(503, "UNAVAILABLE", retry_after="999999999999"),
    ]
    seconds = [(await sender.send(MESSAGE)).retry_after for _ in range(5)]
    assert seconds[0] == 7
    assert 60 < seconds[1] <= 120
    assert seconds[2:] == [60, 0, LONGEST_RETRY_AFTER]


async def test_answers_that_are_none_of_its_own_are_failures(fcm: FakeFcm, sender: FcmSender) -> None:
    fcm.answers = [
        web.Response(status=502, text="<html>bad gateway"),
        web.Response(status=302, headers={"Location": "/"}),
    ]
    assert [(await sender.send(MESSAGE)).outcome for _ in range(2)] == [Outcome.FAILED, Outcome.FAILED]


async def test_without_an_access_token_nothing_is_sent(fcm: FakeFcm, sender: FcmSender) -> None:
    fcm.token_answers = [
        web.json_response({"error": "invalid_grant"}, status=400),
        web.json_response({"nothing": 1}),
        web.Response(status=503, headers={"Retry-After": "9"}),
    ]
    attempts = [await sender.send(MESSAGE) for _ in range(3)]
    assert [attempt.outcome for attempt in attempts] == [Outcome.FAILED] * 3
    assert attempts[2].retry_after == 9
    assert fcm.sent == []


async def test_a_service_that_is_away_is_a_failure(fcm: FakeFcm) -> None:
    credentials = read_credentials(fcm.credentials)
    async with FcmSender(credentials, "http://127.0.0.1:1") as sender:
        attempt = await sender.send(MESSAGE)
    assert (attempt.outcome, attempt.retry_after) == (Outcome.FAILED, 0)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"project_id":"p","client_email":"c","private_key":"k","token_uri":"u"}']
)
def test_credentials_that_are_none_are_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match=r"service account|RSA key"):
        read_credentials(text)
    with pytest.raises(ValueError, match="BUBBLE_FCM_CREDENTIALS"):
        ConnectionSettings.model_validate({"BUBBLE_FCM_CREDENTIALS": text or " "})


def test_more_than_is_needed_may_be_in_the_credentials() -> None:
    fake = FakeFcm()
    account = msgspec.json.decode(fake.credentials) | {"client_id": "1", "universe_domain": "googleapis.com"}
    assert read_credentials(msgspec.json.encode(account).decode()).project_id == account["project_id"]
