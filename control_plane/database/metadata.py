"""Every table, imported once, so that migrations and tests see the whole schema."""

from control_plane.api_keys import tables as _api_keys  # noqa: F401
from control_plane.audit import tables as _audit  # noqa: F401
from control_plane.central_points import tables as _central_points  # noqa: F401
from control_plane.data_keys import tables as _data_keys  # noqa: F401
from control_plane.database.base import Base
from control_plane.events import tables as _events  # noqa: F401
from control_plane.llm_configs import tables as _llm_configs  # noqa: F401
from control_plane.members import tables as _members  # noqa: F401
from control_plane.orchestrators import tables as _orchestrators  # noqa: F401
from control_plane.organizations import tables as _organizations  # noqa: F401
from control_plane.plugins import tables as _plugins  # noqa: F401
from control_plane.provider_models import tables as _provider_models  # noqa: F401
from control_plane.purges import tables as _purges  # noqa: F401
from control_plane.roles import tables as _roles  # noqa: F401
from control_plane.settings import tables as _settings  # noqa: F401
from control_plane.single_sign_on import tables as _single_sign_on  # noqa: F401
from control_plane.tiers import tables as _tiers  # noqa: F401
from control_plane.usage import tables as _usage  # noqa: F401
from control_plane.users import tables as _users  # noqa: F401

metadata = Base.metadata
