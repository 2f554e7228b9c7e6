"""What an instance refers to, read past the ORM: each statement is asked with the id of the instance."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import BindParameter, Select, bindparam, literal_column, select, union_all

from control_plane.database.statements import Question, Row, Statement
from control_plane.llm_configs.records import COLUMNS, LLMConfigRecord
from control_plane.llm_configs.tables import LLMConfig
from control_plane.orchestrators.definition import DefinitionOf, StoredRow
from control_plane.orchestrators.tables import Orchestrator, OrchestratorLLMConfig, OrchestratorPlugin
from control_plane.plugins.catalogue import STORED, entry_of_values
from control_plane.plugins.tables import OrgPlugin, SystemPlugin
from control_plane.settings.repository import cascade_of, tiers_above

_ITS_ID: BindParameter[UUID] = bindparam("instance_id")
ITS_ORG_ID = select(Orchestrator.org_id).where(Orchestrator.id == _ITS_ID).scalar_subquery()


def _plugins(table: Any, link: Any, source: str, org_id: Any, trusted: Any) -> Select[Any]:
    columns = [getattr(table, name) for name in STORED]
    return (
        select(OrchestratorPlugin.position, literal_column(f"'{source}'"), org_id, trusted, *columns)
        .join(OrchestratorPlugin, link == table.id)
        .where(OrchestratorPlugin.instance_id == _ITS_ID)
    )


_OF_SYSTEM = _plugins(
    SystemPlugin, OrchestratorPlugin.system_plugin_id, "system", literal_column("NULL::uuid"), SystemPlugin.trusted
)
_OF_ORGANIZATION = _plugins(
    OrgPlugin, OrchestratorPlugin.org_plugin_id, "org", OrgPlugin.org_id, literal_column("false")
)
_PLUGINS = Statement(union_all(_OF_SYSTEM, _OF_ORGANIZATION).order_by(literal_column("1")))
_LLM_CONFIGS = Statement(
    select(*COLUMNS)
    .join(OrchestratorLLMConfig, OrchestratorLLMConfig.llm_config_id == LLMConfig.id)
    .where(OrchestratorLLMConfig.instance_id == _ITS_ID)
    .order_by(LLMConfig.id)
)
_TIERS = Statement(tiers_above(ITS_ORG_ID))


def questions(instance_id: UUID) -> tuple[Question, Question, Question]:
    """To be asked of one moment, for `definition_of`."""
    return (_PLUGINS(instance_id=instance_id), _LLM_CONFIGS(instance_id=instance_id), _TIERS(instance_id=instance_id))


def definition_of(
    row: StoredRow, plugins: Sequence[Row], llm_configs: Sequence[Row], tiers: Sequence[Row]
) -> DefinitionOf[StoredRow]:
    """The row with what was answered."""
    return DefinitionOf(
        row,
        [entry_of_values(source, org_id, trusted, stored) for _, source, org_id, trusted, *stored in plugins],
        [LLMConfigRecord(*row) for row in llm_configs],
        cascade_of(tiers),
    )
