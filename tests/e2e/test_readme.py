"""What the README shows is what happens: its commands are run, its chat is really held."""

import os
import re
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from deploy.demo.seed import SeedFailed, seed
from deploy.stack.welcome import first_chat
from tests.e2e.client import Client
from tests.e2e.running import RunningStack

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("demo"), pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
# The suite runs inside the environment that `uv run` would make, so the function only takes the words away.
AS_IN_THIS_ENVIRONMENT = 'uv() { shift 2; "$PYTHON" -m deploy.cli "$@"; }\n'


def block_with(text: str) -> str:
    """The README's one code block that holds `text`."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    (found,) = [block for block in blocks if text in block]
    return str(found)


def run_block(block: str, stack: RunningStack) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-euc", AS_IN_THIS_ENVIRONMENT + block],
        cwd=ROOT,
        env={**os.environ, "PYTHON": sys.executable, "CADENCE_DATA_DIR": str(stack.data_dir)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_readme_shows_the_chat_that_cadence_up_prints() -> None:
    assert block_with("/completion/stream") == "\n".join(first_chat("")) + "\n"


def test_the_two_commands_of_the_readme_are_there_to_be_pasted() -> None:
    assert block_with("cadence up\n") == "pip install uv && uv run cadence up\n"
    assert block_with("just test") == "pip install uv && uv run just test\n"


def test_the_chat_of_the_readme_answers_with_real_tool_results(demo: RunningStack) -> None:
    ended = run_block(block_with("/completion/stream"), demo)

    assert ended.returncode == 0, ended.stderr
    stream = ended.stdout
    kinds = re.findall(r"^event: (\w+)$", stream, re.MULTILINE)
    assert kinds[0] == kinds[-1] == "metadata"
    assert {"agent_start", "tool_start", "tool_end", "message", "agent_end"} <= set(kinds)
    assert "42.164813" in stream
    assert "= 84" in stream
    assert '"usage":{"input_tokens":' in stream


def test_every_event_that_the_readme_shows_is_one_that_came(demo: RunningStack) -> None:
    came = run_block(block_with("/completion/stream"), demo).stdout

    shown = [
        line for line in block_with("event: tool_end").splitlines() if line.startswith("data: ") and "…" not in line
    ]
    assert shown
    assert all(steady(line) in steady(came) for line in shown)


def test_every_file_that_the_readme_links_to_is_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]

    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


async def test_seeding_again_changes_nothing_but_the_address_of_the_model(demo: RunningStack) -> None:
    username, password = demo.credentials()
    first = await seed(demo.url, username, password, "http://127.0.0.1:1/v1")
    async with aiohttp.ClientSession() as session:
        client = Client(demo.url, session)
        await client.login(username, password)
        path = f"/api/orgs/{first.org_id}"
        moved = await client.made("GET", f"{path}/llm-configs/{first.llm_config_id}")
        model_url = next(p.url for p in demo.processes() if p.slug == "demo-model") + "/v1"
        second = await seed(demo.url, username, password, model_url)
        back = await client.made("GET", f"{path}/llm-configs/{first.llm_config_id}")
        kinds = ("llm-configs", "plugins", "orchestrators", "users")
        counts = [len((await client.made("GET", f"{path}/{kind}"))["items"]) for kind in kinds]

    assert second == first
    assert (moved["base_url"], back["base_url"]) == ("http://127.0.0.1:1/v1", model_url)
    assert counts == [1, 1, 1, 1]
    assert "42.164813" in run_block(block_with("/completion/stream"), demo).stdout


async def test_a_wrong_password_is_told_in_words(demo: RunningStack) -> None:
    with pytest.raises(SeedFailed, match="could not log in: Wrong username or password"):
        await seed(demo.url, "admin", "not the password", "http://127.0.0.1:1/v1")


def test_a_second_cadence_up_with_the_demo_finds_what_the_first_made(demo: RunningStack) -> None:
    before = demo.run("url", "Demo assistant").stdout
    assert demo.stop() == 0
    demo.start()
    demo.wait_until_ready()
    assert demo.run("url", "Demo assistant").stdout == before
    assert "42.164813" in run_block(block_with("/completion/stream"), demo).stdout


def steady(text: str) -> str:
    """Without what differs from run to run: ids, times, durations."""
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|call_[0-9a-f]+", "ID", text)
    text = re.sub(r'"timestamp":"[^"]*"', '"timestamp":"T"', text)
    return re.sub(r'"duration_ms":\d+', '"duration_ms":0', text)
