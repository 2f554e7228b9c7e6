"""An organization's model credentials (BYOK): written once, used by its own orchestrators, read by nobody."""

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.data_keys.service import DataKeys
from control_plane.database.locks import lock_definitions
from control_plane.database.patches import apply_patch
from control_plane.database.revisions import next_revision, require_match
from control_plane.database.violations import taken, violations
from control_plane.llm_configs.probe import ProbeRequest
from control_plane.llm_configs.records import LLMConfigRecord
from control_plane.llm_configs.repository import LLMConfigRepository
from control_plane.llm_configs.schemas import LLMConfigBody, LLMConfigPatch
from control_plane.llm_configs.tables import LLMConfig
from control_plane.tiers.quota import Quota
from shared.errors import FieldError, ImmutableField, InUse, InvalidRequest, ModelAddressRefused
from shared.frameworks import DEFAULT_BASE_URLS, Provider
from shared.ids import new_id
from shared.model_options import known_model_options, parse_model_options
from shared.providers import meaningless_options
from shared.secrets import fingerprint
from shared.security.addresses import check_model_url
from shared.security.grants import Grant
from shared.snapshots import api_key_place

MAX_ADDITIONAL_CONFIG_BYTES = 8 * 1024
SHOWABLE_KEY_CHARS = 12
"""The last four characters of a shorter key would be too much of it."""

RebuildUsers = Callable[[UUID], Awaitable[object]]
"""Recomputes and bumps every orchestrator that uses a config."""


class LLMConfigService:
    def __init__(
        self,
        *,
        session: AsyncSession,
        configs: LLMConfigRepository,
        keys: DataKeys,
        allow_private_hosts: bool,
        rebuild_users: RebuildUsers,
        quota: Quota,
    ) -> None:
        self._session = session
        self._configs = configs
        self._keys = keys
        self._allow_private_hosts = allow_private_hosts
        self._rebuild_users = rebuild_users
        self._quota = quota

    async def create(self, org_id: UUID, body: LLMConfigBody) -> LLMConfig:
        """Raises InvalidRequest, ModelAddressRefused, AlreadyExists, QuotaReached."""
        self._check_base_url(body.provider, body.base_url)
        _check_options(body.provider, body.additional_config)
        self._keys.expect(org_id)
        await self._quota.check("llm_configs", org_id)
        config = LLMConfig(
            id=new_id(),
            org_id=org_id,
            name=body.name,
            provider=body.provider,
            model_name=body.model_name,
            base_url=body.base_url,
            additional_config=body.additional_config,
            is_enabled=True,
        )
        await self._seal(config, body.api_key)
        with _unique():
            await self._configs.add_last(config)
        return config

    async def get(self, org_id: UUID, config_id: UUID) -> LLMConfig:
        """Raises NotFound."""
        return await self._configs.get(org_id, config_id)

    async def page(self, org_id: UUID, *, after: UUID | None, limit: int) -> Sequence[LLMConfig]:
        return await self._configs.page(org_id, after=after, limit=limit)

    async def change(
        self, org_id: UUID, config_id: UUID, patch: LLMConfigPatch, *, grant: Grant, if_match: str | None
    ) -> LLMConfig:
        """Raises NotFound, StaleRevision, ImmutableField, InvalidRequest, AlreadyExists, PermissionMissing."""
        await lock_definitions(self._session, org_id)
        config = await self._configs.get(org_id, config_id, for_update=True)
        require_match(if_match, config.revision)
        if patch.provider not in (UNSET, config.provider):
            raise ImmutableField(errors=(FieldError("provider", "immutable", "make a new llm_config instead"),))
        if patch.base_url is not UNSET and patch.base_url != config.base_url:
            if patch.api_key is UNSET:
                # Where a key is sent to is use of the key: pointing it at a host of one's own would reveal it.
                grant.require_key_use()
            self._check_base_url(Provider(config.provider), patch.base_url)
        if patch.additional_config is not UNSET:
            _check_options(Provider(config.provider), patch.additional_config)
        apply_patch(config, patch, skip={"api_key", "provider"})
        if patch.api_key is not UNSET:
            await self._seal(config, patch.api_key)
        with _unique(), self._session.no_autoflush:
            config.revision = await next_revision(self._session)
            await self._session.flush()
        await self._rebuild_users(config.id)
        return config

    async def delete(self, org_id: UUID, config_id: UUID, *, if_match: str | None) -> None:
        """Remove a credential nobody runs on. Raises NotFound, StaleRevision, InUse."""
        await lock_definitions(self._session, org_id)
        # Locked before counting: an orchestrator that adopts it needs a key-share lock on this row.
        config = await self._configs.get(org_id, config_id, for_update=True)
        require_match(if_match, config.revision)
        if users := await self._configs.used_by(config_id):
            raise InUse(f"used by {', '.join(users[:5])}{' and others' if len(users) > 5 else ''}")
        config.is_deleted = True
        # What nobody can use any more is not kept, sealed or not.
        config.sealed_api_key = ""
        config.revision = await next_revision(self._session)
        await self._session.flush()

    async def require(
        self, org_id: UUID, config_ids: Collection[UUID], *, field: str = "config.default_llm_config_id"
    ) -> Sequence[LLMConfigRecord]:
        """The configs an orchestrator refers to, kept from being deleted until the transaction ends.

        Raises InvalidRequest naming every one that does not exist here or is disabled.
        """
        found = {config.id: config for config in await self._configs.find_shared(org_id, config_ids)}
        problems = []
        for config_id in config_ids:
            config = found.get(config_id)
            if config is None:
                problems.append(FieldError(field, "unknown", f"there is no llm_config {config_id}"))
            elif not config.is_enabled:
                problems.append(FieldError(field, "disabled", f"the llm_config {config.name} is disabled"))
        if problems:
            raise InvalidRequest("an llm_config cannot be used", errors=tuple(problems))
        return list(found.values())

    async def probe_request(self, org_id: UUID, config_id: UUID) -> ProbeRequest:
        """What one test call needs, the key included. Raises NotFound, InvalidRequest, SecretUnreadable,
        KeyServiceUnavailable.
        """
        # Before the sealed key is read: what opens it must not be retired in between.
        keyring = await self._keys.opening(org_id)
        config = await self._configs.get(org_id, config_id)
        if config.model_name is None:
            problem = FieldError("model_name", "missing", "without one there is nothing to call")
            raise InvalidRequest(errors=(problem,))
        return ProbeRequest(
            provider=Provider(config.provider),
            model_name=config.model_name,
            base_url=config.base_url,
            api_key=keyring.open(config.sealed_api_key, **api_key_place(config.id)),
            options=known_model_options(config.additional_config)[0],
        )

    async def _seal(self, config: LLMConfig, api_key: str) -> None:
        keyring = await self._keys.sealing(config.org_id)
        config.sealed_api_key = keyring.seal(api_key, **api_key_place(config.id))
        config.key_fingerprint = fingerprint(api_key)
        config.key_last4 = api_key[-4:] if len(api_key) >= SHOWABLE_KEY_CHARS else ""

    def _check_base_url(self, provider: Provider, base_url: str | None) -> None:
        if base_url is None:
            if provider not in DEFAULT_BASE_URLS:
                message = f"{provider} has no address of its own"
                raise InvalidRequest("base_url is needed", errors=(FieldError("base_url", "missing", message),))
            return
        try:
            check_model_url(base_url, allow_private=self._allow_private_hosts)
        except ModelAddressRefused as refusal:
            raise ModelAddressRefused(
                refusal.detail, errors=(FieldError("base_url", "refused", refusal.detail),)
            ) from None


def _check_options(provider: Provider, additional_config: dict[str, Any]) -> None:
    """What a worker would not understand, or could not build from, is refused now rather than found out then; so is
    what this provider cannot be told, instead of being left out in silence."""
    parse_model_options(additional_config)
    if unused := sorted(additional_config.keys() & meaningless_options(provider)):
        errors = tuple(
            FieldError(f"additional_config.{key}", "meaningless", f"{provider} has no such option") for key in unused
        )
        raise InvalidRequest("additional_config is not valid", errors=errors)
    size = len(msgspec.json.encode(additional_config))
    if size > MAX_ADDITIONAL_CONFIG_BYTES:
        message = f"{size} bytes as JSON, at most {MAX_ADDITIONAL_CONFIG_BYTES} are kept"
        raise InvalidRequest(errors=(FieldError("additional_config", "too_large", message),))


def _unique() -> AbstractContextManager[None]:
    return violations({"uq_organization_llm_configs_name_living": taken("name", "this name")})
