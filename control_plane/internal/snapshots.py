"""What a worker is given of one instance, read at one moment: revision, hash, secrets and keys belong together."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import BindParameter, bindparam, func, literal_column, or_, select, union_all

from control_plane.data_keys.tables import DataKey
from control_plane.database.statements import Question, Row, Statement
from control_plane.llm_configs.tables import LLMConfig
from control_plane.orchestrators import parts
from control_plane.orchestrators.reading import RECORDS, OrchestratorRecord
from control_plane.orchestrators.tables import Orchestrator, OrchestratorLLMConfig
from control_plane.provider_models.prices import priced_models, prices_of
from control_plane.provider_models.tables import ProviderModel
from shared.errors import NotFound
from shared.security.data_keys import data_keys_of
from shared.snapshots import OrchestratorSnapshot, WrappedDataKey

_ITS_ID: BindParameter[UUID] = bindparam("instance_id")
_RECORD = Statement(RECORDS.where(Orchestrator.id == _ITS_ID))
# All that could name a model: which of it does only the config's own structs know.
_TEXTS: Any = literal_column("""'$.** ? (@.type() == "string")'::jsonpath""")
_NAMED: Any = union_all(
    select(LLMConfig.model_name)
    .join(OrchestratorLLMConfig, OrchestratorLLMConfig.llm_config_id == LLMConfig.id)
    .where(OrchestratorLLMConfig.instance_id == _ITS_ID),
    select(func.jsonb_path_query(Orchestrator.config, _TEXTS).op("#>>")(literal_column("'{}'"))).where(
        Orchestrator.id == _ITS_ID
    ),
)
_PRICES = Statement(priced_models().where(ProviderModel.model_name.in_(_NAMED)))
# A setting is sealed by the organization, the default of a system plugin's by the platform.
_KEYS = Statement(
    select(DataKey.id, DataKey.wrapped_key)
    .where(or_(DataKey.org_id.is_(None), DataKey.org_id == parts.ITS_ORG_ID))
    .order_by(DataKey.generation, DataKey.id)
)


def questions(instance_id: UUID) -> tuple[Question, ...]:
    """To be asked of one moment, for `snapshot_of`."""
    its = {"instance_id": instance_id}
    return (_RECORD(**its), _PRICES(**its), _KEYS(**its), *parts.questions(instance_id))


def snapshot_of(
    rows: Sequence[Row], prices: Sequence[Row], keys: Sequence[Row], *referred_to: Sequence[Row]
) -> OrchestratorSnapshot:
    """Raises NotFound for one that never was, is soft-deleted or purged."""
    if not rows:
        raise NotFound
    definition = parts.definition_of(OrchestratorRecord(*rows[0]), *referred_to)
    found = definition.snapshot(prices_of(definition.models(), prices))
    needed = data_keys_of(found.sealed_values())
    return msgspec.structs.replace(found, data_keys=tuple(WrappedDataKey(*key) for key in keys if key[0] in needed))
