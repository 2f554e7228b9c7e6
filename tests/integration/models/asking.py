"""What the tests of the wires ask with."""

from typing import Any

import pytest

from runtime_worker.models.base import ModelClient, ModelMessage, ModelRequest, ModelTool
from shared.errors import ModelError
from tests.fakes.instances import API_KEY

HELLO = (ModelMessage("user", "hello"),)
ADD = ModelTool("add", "Add two numbers.", {"type": "object", "properties": {"a": {"type": "integer"}}})
VERDICT = {
    "type": "object",
    "properties": {"is_valid": {"type": "boolean"}},
    "required": ["is_valid"],
    "additionalProperties": False,
}


def request(**options: Any) -> ModelRequest:
    return ModelRequest(**{"messages": HELLO, "timeout_seconds": 10, **options})


async def code_of(client: ModelClient, **options: Any) -> str:
    """The code of the error that a call ends with; it never repeats the key."""
    with pytest.raises(ModelError) as caught:
        await client.complete(request(**options))
    assert API_KEY not in caught.value.detail
    return caught.value.code
