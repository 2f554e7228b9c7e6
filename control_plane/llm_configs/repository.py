"""Queries for the LLM configs of one organization."""

from collections.abc import Collection, Sequence
from uuid import UUID

from sqlalchemy import ARRAY, any_, bindparam, select
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.ext.asyncio import AsyncSession

from control_plane.database.direct import look, run
from control_plane.database.rows import Pages, columns_of, opened, store_last
from control_plane.database.statements import Statement
from control_plane.llm_configs.records import COLUMNS, LLMConfigRecord
from control_plane.llm_configs.tables import LLMConfig
from control_plane.orchestrators.tables import Orchestrator, OrchestratorLLMConfig
from shared.errors import NotFound

_SHARED = Statement(
    select(*COLUMNS)
    .where(
        LLMConfig.org_id == bindparam("org_id"),
        LLMConfig.id == any_(bindparam("config_ids", type_=ARRAY(PG_UUID))),
        LLMConfig.is_deleted.is_(False),
    )
    .order_by(LLMConfig.id)
    .with_for_update(read=True, key_share=True)
)


_LIVING = select(*columns_of(LLMConfig)).where(
    LLMConfig.org_id == bindparam("its_org_id"), LLMConfig.is_deleted.is_(False)
)
_CONFIG = Statement(_LIVING.where(LLMConfig.id == bindparam("its_id")))
# The full lock: the weaker one of an ordinary update lets the key-share locks of `find_shared` through.
_CONFIG_FOR_UPDATE = Statement(_LIVING.where(LLMConfig.id == bindparam("its_id")).with_for_update())
_PAGES = Pages(LLMConfig, _LIVING)


class LLMConfigRepository:
    """Living configs only."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, org_id: UUID, config_id: UUID, *, for_update: bool = False) -> LLMConfig:
        """Raises NotFound. The lock keeps orchestrators from adopting the config until the transaction ends."""
        if for_update:
            [found] = await run(self._session, _CONFIG_FOR_UPDATE(its_org_id=org_id, its_id=config_id))
        else:
            found = await look(self._session, _CONFIG(its_org_id=org_id, its_id=config_id))
        if not found:
            raise NotFound
        return opened(self._session, LLMConfig, found[0])

    async def find_shared(self, org_id: UUID, config_ids: Collection[UUID]) -> list[LLMConfigRecord]:
        """Those of the given configs that exist, held against deletion until the transaction ends."""
        [rows] = await run(self._session, _SHARED(org_id=org_id, config_ids=[*config_ids]))
        return [LLMConfigRecord(*row) for row in rows]

    async def page(self, org_id: UUID, *, after: UUID | None, limit: int) -> Sequence[LLMConfig]:
        rows = await look(self._session, _PAGES.question(after=after, limit=limit, its_org_id=org_id))
        return [opened(self._session, LLMConfig, row) for row in rows]

    async def used_by(self, config_id: UUID) -> Sequence[str]:
        """The names of the orchestrators that refer to a config, deactivated ones included: they may come back."""
        query = (
            select(Orchestrator.name)
            .join(OrchestratorLLMConfig, OrchestratorLLMConfig.instance_id == Orchestrator.id)
            .where(OrchestratorLLMConfig.llm_config_id == config_id, Orchestrator.is_deleted.is_(False))
            .order_by(Orchestrator.name)
        )
        return (await self._session.execute(query)).scalars().all()

    async def add_last(self, config: LLMConfig) -> None:
        """Store a new one and end the transaction. Raises IntegrityError."""
        await store_last(self._session, config)
