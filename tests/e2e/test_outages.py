"""Servers that stop answering for ten seconds under traffic, and everything working again without a restart."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.e2e.outage import paused, pids
from tests.e2e.running import RunningStack
from tests.e2e.tenant import Tenant
from tests.e2e.traffic import Traffic

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e"), pytest.mark.timeout(180)]

OUTAGE_SECONDS = 10
SERVED_SECONDS = 30


@pytest.fixture
def traffic(stack: RunningStack, tenant: Tenant) -> Traffic:
    return Traffic(tenant, stack.credentials())


async def test_without_postgresql_chats_go_on_and_no_definition_is_lost(stack: RunningStack, traffic: Traffic) -> None:
    async with outage(stack, traffic, "postgres"):
        await ten_seconds_of(traffic)
    assert [chat for chat in traffic.chats if not chat.is_completed] == []
    assert 503 in {answer.status for answer in traffic.answers}


async def test_without_mongodb_what_was_said_is_stored_later(stack: RunningStack, traffic: Traffic) -> None:
    async with outage(stack, traffic, "mongo"):
        await ten_seconds_of(traffic)
    assert [chat for chat in traffic.chats if chat.events and not chat.is_completed] == []
    assert all(answer.status < 300 for answer in traffic.answers)


async def test_without_valkey_live_streams_finish_and_sessions_survive(stack: RunningStack, traffic: Traffic) -> None:
    async with outage(stack, traffic, "valkey"):
        await ten_seconds_of(traffic)
    assert [chat for chat in traffic.chats if chat.events and not chat.is_completed] == []
    assert 503 in {answer.status for answer in traffic.answers}


async def test_without_the_broker_changes_reach_the_workers_all_the_same(stack: RunningStack, traffic: Traffic) -> None:
    async with outage(stack, traffic, "nats"):
        await asyncio.gather(ten_seconds_of(traffic), one_more_change_is_served(traffic))
    assert [chat for chat in traffic.chats if not chat.is_completed] == []
    assert all(answer.status < 300 for answer in traffic.answers)


async def test_a_killed_control_plane_comes_back_and_what_it_had_promised_is_kept(
    stack: RunningStack, tenant: Tenant
) -> None:
    traffic = Traffic(tenant, stack.credentials(), may_be_cut=True)
    before = await pids(stack)
    async with traffic.flowing():
        await traffic.until_all_works()
        os.kill(before["control-plane"], signal.SIGKILL)
        async with asyncio.timeout(SERVED_SECONDS):
            while (await pids(stack)).get("control-plane") in (None, before["control-plane"]):
                await asyncio.sleep(0.1)
        await traffic.until_all_works()
    assert any(chat.is_cut for chat in traffic.chats)
    await traffic.assert_nothing_is_lost()
    await served(traffic)
    after = await pids(stack)
    assert {slug for slug, pid in after.items() if pid != before[slug]} == {"control-plane"}


async def ten_seconds_of(traffic: Traffic) -> None:
    """Nobody waits for the end of the outage: a burst in the middle of it is answered before."""
    await asyncio.gather(asyncio.sleep(OUTAGE_SECONDS), traffic.burst())


async def one_more_change_is_served(traffic: Traffic) -> None:
    known = set(traffic.accepted_hashes)
    async with asyncio.timeout(SERVED_SECONDS):
        while not (set(traffic.accepted_hashes) - known) & traffic.served_hashes:
            await asyncio.sleep(0.1)


@asynccontextmanager
async def outage(stack: RunningStack, traffic: Traffic, slug: str) -> AsyncIterator[None]:
    """The server stands still for as long as the block lasts, while traffic flows before, during and after it.

    Then: everything works again, by the same processes and in the same session, and nothing is lost.
    """
    before = await pids(stack)
    async with traffic.flowing():
        await traffic.until_all_works()
        async with paused(before[slug]):
            yield
        await traffic.until_all_works()
    await traffic.assert_nothing_is_lost()
    await served(traffic)
    assert await pids(stack) == before


async def served(traffic: Traffic) -> None:
    """New chats run on the newest configuration."""
    newest = (await traffic.tenant.get())["config_hash"]
    async with asyncio.timeout(SERVED_SECONDS):
        while True:
            chat = await traffic.chat()
            if chat.events and chat.config_hash == newest:
                return
            await asyncio.sleep(0.1)
