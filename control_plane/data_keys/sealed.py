"""Every place where a sealed value is stored."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast
from uuid import UUID

import msgspec
from sqlalchemy import Text, select, update
from sqlalchemy import cast as sql_cast
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.llm_configs.tables import LLMConfig
from control_plane.orchestrators.tables import Orchestrator
from control_plane.plugins.tables import OrgPlugin, SystemPlugin
from shared.security.data_keys import data_key_of
from shared.snapshots import (
    SEALED_DEFAULT_FIELD,
    SEALED_FIELD,
    api_key_place,
    plugin_default_place,
    plugin_setting_place,
)

Table = type[LLMConfig | Orchestrator | OrgPlugin | SystemPlugin]
Replace = Callable[[str, dict[str, Any]], str]
"""`(sealed, place)` → what to store instead."""


class Walk(Protocol):
    """A column's value with each sealed value in it replaced."""

    def __call__(self, row_id: UUID, value: Any, replace: Replace) -> Any: ...


class SealedColumn(msgspec.Struct, frozen=True):
    """`is_defined` says that whoever changes the column holds `lock_definitions` of the organization from before they
    read it: they write all of it back, with what they did not mean to change.
    """

    table: Table
    column: str
    walk: Walk
    is_defined: bool = False

    async def forget_older(self, session: AsyncSession, org_id: UUID) -> None:
        """Blank what a key-encryption key itself sealed, before there were data keys."""
        table, attribute = cast("Any", self.table), getattr(self.table, self.column)
        query = select(table.id, attribute).where(table.org_id == org_id, sql_cast(attribute, Text).like("%v1.%"))
        for row_id, value in (await session.execute(query)).all():
            blanked = self.walk(row_id, value, lambda sealed, _: sealed if data_key_of(sealed) else "")
            await session.execute(update(table).where(table.id == row_id).values({attribute: blanked}))

    @property
    def has_owner(self) -> bool:
        return self.table is not SystemPlugin


def _api_key(row_id: UUID, value: Any, replace: Replace) -> Any:
    return replace(value, api_key_place(row_id)) if value else value


def _plugin_settings(row_id: UUID, value: Any, replace: Replace) -> Any:
    return {
        plugin: {
            name: _replaced(setting, SEALED_FIELD, plugin_setting_place(row_id, plugin, name), replace)
            for name, setting in settings.items()
        }
        for plugin, settings in value.items()
    }


def _org_defaults(row_id: UUID, value: Any, replace: Replace) -> Any:
    return {
        name: _replaced(setting, SEALED_DEFAULT_FIELD, plugin_default_place("org", row_id, name), replace)
        for name, setting in value.items()
    }


def _system_defaults(row_id: UUID, value: Any, replace: Replace) -> Any:
    return {
        name: _replaced(setting, SEALED_DEFAULT_FIELD, plugin_default_place("system", row_id, name), replace)
        for name, setting in value.items()
    }


def _replaced(setting: Any, field: str, place: dict[str, Any], replace: Replace) -> Any:
    if isinstance(setting, Mapping) and setting.get(field):
        return {**setting, field: replace(setting[field], place)}
    return setting


SEALED_COLUMNS = (
    SealedColumn(LLMConfig, "sealed_api_key", _api_key),
    SealedColumn(Orchestrator, "plugin_settings", _plugin_settings, is_defined=True),
    SealedColumn(OrgPlugin, "default_settings", _org_defaults),
    SealedColumn(SystemPlugin, "default_settings", _system_defaults),
)
