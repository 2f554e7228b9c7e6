"""The process an operator starts."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from aiohttp import ClientSession

from deploy.local.ports import free_port
from tests.fakes.control_plane import TOKEN, FakeControlPlane
from tests.integration.runtime_worker.worker import answers, eventually

SECRET_KEY = "a secret key of the process that is long enough"


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
async def test_a_serving_worker_holds_no_secret_in_its_environment(
    control_plane: FakeControlPlane, redis_url: str, mongo_url: str, nats_url: str, tmp_path: Path
) -> None:
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "CADENCE_WORKER_PORT": str(port),
        "CADENCE_CONTROL_PLANE_URL": control_plane.url,
        "CADENCE_MONGO_URL": mongo_url,
        "CADENCE_REDIS_URL": redis_url,
        "CADENCE_BROKER_URL": nats_url,
        "CADENCE_STORAGE_ROOT": str(tmp_path),
        "CADENCE_PACKAGE_CACHE": str(tmp_path / "cache"),
        "CADENCE_SECRET_KEY": SECRET_KEY,
        "CADENCE_WORKER_TOKEN": TOKEN,
        "CADENCE_ENCRYPTION_KEYS": "k1:" + "ab" * 32,
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "runtime_worker", env=environment)
    try:
        async with ClientSession() as http:
            await eventually(lambda: answers(http, f"http://127.0.0.1:{port}/health"), seconds=60)
        shown = Path(f"/proc/{process.pid}/environ").read_bytes()
    finally:
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0

    assert b"PATH=" in shown
    for secret in (SECRET_KEY, TOKEN, "ab" * 32, mongo_url):
        assert secret.encode() not in shown
