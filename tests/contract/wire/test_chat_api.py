"""The one OpenAPI document that users read describes the chat routes exactly as the workers serve them."""

from pathlib import Path

import control_plane.gateway
import runtime_worker.openapi
from control_plane.gateway.chat_api import add_chat_api

COMMITTED = Path(control_plane.gateway.__file__).parent / "chat_api.json"


def test_the_committed_description_is_that_of_the_workers() -> None:
    assert COMMITTED.read_text() == runtime_worker.openapi.chat_api(), (
        "run `python -m runtime_worker.openapi > control_plane/gateway/chat_api.json`"
    )


def test_the_document_holds_the_streaming_route_and_what_its_answers_refer_to() -> None:
    doc: dict[str, dict[str, dict[str, object]]] = {"paths": {}, "components": {"schemas": {}}}
    add_chat_api(doc)
    assert "/api/orgs/{org_id}/orchestrators/{instance_id}/completion/stream" in doc["paths"]
    assert {"CompletionBody", "CompletionAnswer", "Problem"} <= doc["components"]["schemas"].keys()
