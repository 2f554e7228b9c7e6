"""The processes an operator starts."""

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
import pytest

from control_plane.__main__ import main as serve
from control_plane.bootstrap import main as bootstrap
from shared.settings import ControlPlaneSettings

PATIENCE_SECONDS = 30.0


@pytest.fixture
def environment(settings: ControlPlaneSettings, tmp_path: Path) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "CADENCE_POSTGRES_URL": settings.postgres_url,
        "CADENCE_REDIS_URL": settings.redis_url,
        "CADENCE_BROKER_URL": settings.broker_url,
        "CADENCE_STORAGE_ROOT": str(tmp_path),
        "CADENCE_SECRET_KEY": settings.security.secret_key,
        "CADENCE_WORKER_TOKEN": settings.security.worker_token,
        "CADENCE_ENCRYPTION_KEYS": "k1:" + "ab" * 32,
    }


class Command:
    """Runs a `main()` of ours with an environment, beside this event loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    async def run(
        self, environment: dict[str, str], main: Callable[..., int], *arguments: list[str]
    ) -> tuple[int, str, str]:
        """Exit code, standard output and standard error."""
        for name in [name for name in os.environ if name.startswith("CADENCE_")]:
            self._monkeypatch.delenv(name)
        for name, value in environment.items():
            self._monkeypatch.setenv(name, value)
        # It would replace the handlers of pytest for the rest of the run.
        self._monkeypatch.setattr("control_plane.bootstrap.configure_logging", lambda *_: None)
        self._capsys.readouterr()
        code = await asyncio.to_thread(main, *arguments)
        out, err = self._capsys.readouterr()
        # The relay of the application under test logs to the same standard output.
        return code, "".join(line for line in out.splitlines(keepends=True) if line.startswith("{")), err


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


async def test_the_first_sys_admin_is_made_once_and_can_log_in(
    command: Command, environment: dict[str, str], http: httpx.AsyncClient
) -> None:
    code, out, _ = await command.run(environment, bootstrap, ["--username", "boss", "--email", "b@example.com"])
    assert code == 0
    made = json.loads(out)
    assert len(made["password"]) >= 20

    me = await http.get("/api/me", headers={"Authorization": f"Bearer {made['token']}"})
    assert (me.json()["username"], me.json()["is_sys_admin"]) == ("boss", True)
    assert me.json()["user_id"] == made["user_id"]
    body = {"username": "boss", "password": made["password"]}
    assert (await http.post("/api/auth/login", json=body)).status_code == 200

    code, out, err = await command.run(environment, bootstrap, ["--username", "other"])
    assert (code, out) == (3, "")
    assert "--add-sys-admin" in err

    same = await command.run(environment, bootstrap, ["--username", "boss", "--add-sys-admin"])
    assert same[0] == 4
    code, out, _ = await command.run(
        environment, bootstrap, ["--username", "other", "--password", "chosen by me", "--add-sys-admin"]
    )
    assert (code, json.loads(out)["password"]) == (0, "chosen by me")


async def test_a_weak_password_for_the_first_sys_admin_is_refused(
    command: Command, environment: dict[str, str]
) -> None:
    code, out, err = await command.run(environment, bootstrap, ["--password", "short"])

    assert (code, out) == (4, "")
    assert "length >= 8" in err


async def test_bad_settings_are_told_all_at_once_and_nothing_starts(
    command: Command, environment: dict[str, str]
) -> None:
    bad = {**environment, "CADENCE_SECRET_KEY": "short", "CADENCE_API_PORT": "http"}
    del bad["CADENCE_POSTGRES_URL"]

    mains: list[tuple[Callable[..., int], list[list[str]]]] = [(serve, []), (bootstrap, [[]])]
    for main, arguments in mains:
        code, out, err = await command.run(bad, main, *arguments)

        assert (code, out) == (2, "")
        for name in ("CADENCE_SECRET_KEY", "CADENCE_API_PORT", "CADENCE_POSTGRES_URL"):
            assert name in err


async def test_the_server_serves_and_stops_on_sigterm(environment: dict[str, str], tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "log"
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "control_plane", env={**environment, "CADENCE_API_PORT": str(port)}, stderr=stderr
        )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            give_up = time.monotonic() + PATIENCE_SECONDS
            while True:
                assert process.returncode is None, log.read_text()
                assert time.monotonic() < give_up, log.read_text()
                try:
                    ready = await client.get("/health/ready")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
            missing = await client.get("/nothing", headers={"X-Request-ID": "seen-in-the-log"})
            shown = [child.environ() for child in psutil.Process(process.pid).children()]
    finally:
        process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), PATIENCE_SECONDS)

    assert ready.json()["status"] == "ready"
    assert missing.status_code == 404
    assert code == 0
    # The process that serves; the one that starts it must be able to start another.
    assert any("PATH" in variables for variables in shown)
    secrets = {environment[f"CADENCE_{name}"] for name in ("SECRET_KEY", "WORKER_TOKEN", "POSTGRES_URL")}
    assert not [v for variables in shown if "PATH" in variables for v in variables.values() if v in secrets]
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    requests = [line for line in lines if line.get("request_id") == "seen-in-the-log"]
    assert [(line["event"], line["status"], line["path"]) for line in requests] == [("request", 404, "/nothing")]
