"""`python -m control_plane.openapi`: print the OpenAPI document. Needs no settings and no server."""

import sys

import msgspec

from control_plane.app import create_app
from control_plane.http.openapi import document
from shared.settings import read_control_plane_settings

# An application must be configured in order to be described; it connects to nothing, and nothing of this is in the
# document.
_PLACEHOLDERS = {
    "CADENCE_SECRET_KEY": "0" * 64,
    "CADENCE_WORKER_TOKEN": "0" * 64,
    "CADENCE_ENCRYPTION_KEYS": "none:" + "0" * 64,
    "CADENCE_POSTGRES_URL": "postgresql://nowhere/none",
    "CADENCE_REDIS_URL": "redis://nowhere",
    "CADENCE_BROKER_URL": "nats://nowhere",
    "CADENCE_STORAGE_ROOT": ".",
}


def main() -> None:
    app = create_app(read_control_plane_settings(_PLACEHOLDERS))
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(document(app))).decode() + "\n")


if __name__ == "__main__":
    main()
