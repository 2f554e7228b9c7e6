"""Model clients, shared: one per credential and model of an organization, counted by who uses them."""

from uuid import UUID

import msgspec

from runtime_worker.models.base import ModelClient
from runtime_worker.models.client import WireClient
from runtime_worker.models.connections import ModelConnections
from runtime_worker.models.wires import wire_format
from shared.config_hash import config_hash
from shared.errors import InvalidRequest, ModelAddressRefused, OrchestratorBuildFailed, SecretUnreadable
from shared.frameworks import DEFAULT_BASE_URLS
from shared.logging import get_logger
from shared.model_options import known_model_options
from shared.security.addresses import check_model_url
from shared.security.data_keys import Opener
from shared.snapshots import LLMConfigSnapshot, api_key_place

log = get_logger(__name__)

ClientKey = tuple[UUID, str, str, str, str, str]
"""Organization first: two organizations never share a client, not even with the same key."""


class _Shared(msgspec.Struct):
    client: WireClient
    users: int = 0


class ModelRegistry:
    """Opens sealed keys (the only place that does) and hands out clients. Needs no lock: nothing here awaits.

    `keyring` opens what comes without one of its own.
    """

    def __init__(self, connections: ModelConnections, keyring: Opener) -> None:
        self._connections = connections
        self._keyring = keyring
        self._shared: dict[ClientKey, _Shared] = {}
        self._keys: dict[ModelClient, ClientKey] = {}

    def acquire(
        self, config: LLMConfigSnapshot, model_name: str, org_id: UUID, keyring: Opener | None = None
    ) -> ModelClient:
        """The client for this credential and model; give it back with `release`, once per call.

        `keyring` opens what the organization sealed.

        Raises OrchestratorBuildFailed for what an admin has to change: provider, address, options, unreadable key.
        """
        base_url = (config.base_url or DEFAULT_BASE_URLS.get(config.provider, "")).rstrip("/")
        options = config_hash(config.additional_config)
        key = (org_id, config.provider.value, model_name, config.key_fingerprint, base_url, options)
        shared = self._shared.get(key)
        if shared is None:
            shared = self._shared[key] = _Shared(self._create(config, model_name, base_url, keyring or self._keyring))
            self._keys[shared.client] = key
        shared.users += 1
        return shared.client

    def release(self, client: ModelClient) -> None:
        """Give back one use. The last one drops the client and with it the opened key."""
        key = self._keys[client]
        shared = self._shared[key]
        shared.users -= 1
        if shared.users == 0:
            del self._shared[key], self._keys[client]

    @property
    def count(self) -> int:
        """How many clients are shared right now (`shared_models` of the pool stats)."""
        return len(self._shared)

    def _create(self, config: LLMConfigSnapshot, model_name: str, base_url: str, keyring: Opener) -> WireClient:
        if not base_url:
            raise OrchestratorBuildFailed(f"the llm_config for provider {config.provider} names no base_url")
        try:
            check_model_url(base_url, allow_private=self._connections.allow_private)
            options, ignored = known_model_options(config.additional_config)
            # Keys are pasted, and a newline that came along would break the header.
            api_key = keyring.open(config.sealed_api_key, **api_key_place(config.id)).strip()
        except (ModelAddressRefused, SecretUnreadable) as error:
            raise OrchestratorBuildFailed(f"llm_config {config.id}: {error.detail}") from None
        except InvalidRequest as error:
            reasons = "; ".join(f"{e.field}: {e.message}" for e in error.errors)
            raise OrchestratorBuildFailed(f"llm_config {config.id}: {reasons}") from None
        if ignored:
            log.warning("model_options_ignored", llm_config_id=str(config.id), keys=ignored)
        wire = wire_format(config.provider, base_url=base_url, api_key=api_key, model_name=model_name, options=options)
        return WireClient(self._connections, wire, model_name=model_name, max_retries=options.max_retries)
