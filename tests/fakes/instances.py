"""Snapshots of instances as the control plane would send them, and the turns to run on them."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from runtime_worker.engines.base import EngineParts, Orchestrator, RunRequest
from runtime_worker.engines.choices import llm_config, model_keys
from runtime_worker.engines.registry import engine_for
from runtime_worker.models.base import ModelMessage
from runtime_worker.models.registry import ModelRegistry
from runtime_worker.plugins.base import PluginBundle
from shared.config_hash import config_hash
from shared.frameworks import Framework, Mode, Provider
from shared.ids import new_id
from shared.orchestrator_config import parse_config, to_stored
from shared.secrets import SecretKeyring, fingerprint
from shared.snapshots import LLMConfigSnapshot, OrchestratorSnapshot, api_key_place

KEYRING = SecretKeyring({"test": bytes(range(32))})
API_KEY = "sk-test-0123456789abcdef"


def llm_config_snapshot(
    base_url: str,
    *,
    api_key: str = API_KEY,
    model_name: str | None = "test-model",
    provider: Provider = Provider.OPENAI,
    config_id: UUID | None = None,
    **additional_config: Any,
) -> LLMConfigSnapshot:
    config_id = config_id or new_id()
    return LLMConfigSnapshot(
        id=config_id,
        provider=provider,
        model_name=model_name,
        base_url=base_url,
        additional_config=additional_config,
        sealed_api_key=KEYRING.seal(api_key, **api_key_place(config_id)),
        key_fingerprint=fingerprint(api_key),
        revision=1,
    )


def instance_snapshot(
    *llm_configs: LLMConfigSnapshot,
    org_id: UUID | None = None,
    whoami: str = "",
    framework: Framework = Framework.LANGGRAPH,
    mode: Mode = Mode.SUPERVISOR,
    **config: Any,
) -> OrchestratorSnapshot:
    """The first llm_config is the default one, `config` is what an admin would send."""
    raw = {"default_llm_config_id": str(llm_configs[0].id), **config}
    stored = to_stored(parse_config(mode, raw))
    return OrchestratorSnapshot(
        instance_id=new_id(),
        org_id=org_id or new_id(),
        name="Test",
        framework_type=framework,
        mode=mode,
        status="active",
        tier="hot",
        is_unloaded=False,
        revision=1,
        config_hash=config_hash(stored),
        whoami=whoami,
        config=stored,
        plugins=(),
        llm_configs={str(config.id): config for config in llm_configs},
    )


async def build(
    registry: ModelRegistry, snapshot: OrchestratorSnapshot, bundles: Sequence[PluginBundle]
) -> Orchestrator:
    """What the pool does: acquire the models, build."""
    models = {
        key: registry.acquire(llm_config(snapshot, key[0]), key[1], snapshot.org_id) for key in model_keys(snapshot)
    }
    engine = engine_for(snapshot.framework_type, snapshot.mode)
    return await engine.build(snapshot, EngineParts(models, tuple(bundles)))


def turn(
    message: str,
    *,
    history: Sequence[ModelMessage] = (),
    seconds: float = 30,
    snapshot: OrchestratorSnapshot | None = None,
    resource_id: str | None = None,
    anchor: Mapping[str, Any] | None = None,
    last_agent: str | None = None,
) -> RunRequest:
    """One turn that has to be done within `seconds`. Call it inside the running loop."""
    request = RunRequest(
        run_id=new_id(),
        conversation_id=new_id(),
        org_id=new_id(),
        user_id=new_id(),
        message=message,
        history=history,
        resource_id=resource_id,
        deadline=asyncio.get_running_loop().time() + seconds,
        anchor=anchor,
        last_agent=last_agent,
    )
    return msgspec.structs.replace(request, org_id=snapshot.org_id) if snapshot else request
