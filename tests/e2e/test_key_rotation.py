"""Rotating the keys that secrets are sealed with, on a stack that people are using and where others keep theirs."""

import asyncio
import json
import os
import secrets
import subprocess
from pathlib import Path

import pytest

from tests.e2e.client import Client
from tests.e2e.running import RunningStack, cadence
from tests.e2e.tenant import Tenant
from tests.e2e.traffic import Traffic

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e"), pytest.mark.timeout(300)]


def put(keys_file: Path, *keys: str) -> None:
    """As an operator or a secret store does: at once, not line by line."""
    replacement = keys_file.with_suffix(".new")
    replacement.write_text("\n".join(keys))
    replacement.replace(keys_file)


def rotate(stack: RunningStack, keys_file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = cadence("secrets", "rotate", "--json", "--data-dir", str(stack.data_dir), *options)
    environment = {**os.environ, "CADENCE_ENCRYPTION_KEYS_FILE": str(keys_file)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


async def test_keys_rotate_while_people_chat_and_change_their_credentials(
    stack: RunningStack, keys_file: Path, admin: Client, tenant: Tenant
) -> None:
    old, new = keys_file.read_text(), f"second:{secrets.token_hex(32)}"
    traffic = Traffic(tenant, stack.credentials())
    credential = f"{tenant.org_path}/llm-configs/{tenant.llm_config_id}"

    async with traffic.flowing():
        put(keys_file, new, old)
        for options in ((), ("--reseal",)):
            changed = await admin.call("PATCH", credential, json={"api_key": f"sk-e2e-changed-{secrets.token_hex(4)}"})
            assert changed.status == 200, changed
            run = await asyncio.to_thread(rotate, stack, keys_file, *options)
            assert run.returncode == 0, run.stderr
            report = json.loads(run.stdout)
            assert (report["newest"], report["unreadable"]) == ("second", 0)
            assert "first" in report["not_needed"]
        put(keys_file, new)
        # With the old key taken away: a credential is changed and an instance built anew.
        assert (await admin.call("PATCH", credential, json={"api_key": "sk-e2e-last-key-1234"})).status == 200
        await tenant.until_ready()
        built = len(traffic.chats)
        while len(traffic.chats) < built + 6:
            await asyncio.sleep(0.05)

    assert all(chat.is_completed for chat in traffic.chats), [chat.refusal for chat in traffic.chats]
    assert {answer.status for answer in traffic.answers} <= {200, 201, 202}
    assert len(traffic.chats) >= 6
    await traffic.assert_nothing_is_lost()
