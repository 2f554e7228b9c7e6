"""All modes, as frameworks wire them."""

from typing import Any

from runtime_worker.engines.nodes.coordinator import COORDINATOR
from runtime_worker.engines.nodes.grounded import GROUNDED
from runtime_worker.engines.nodes.handoff import HANDOFF
from runtime_worker.engines.nodes.supervisor import SUPERVISOR
from runtime_worker.engines.nodes.visit import ModeWork
from shared.frameworks import Mode

MODE_WORKS: dict[Mode, ModeWork[Any, Any, Any]] = {
    Mode.SUPERVISOR: SUPERVISOR,
    Mode.COORDINATOR: COORDINATOR,
    Mode.HANDOFF: HANDOFF,
    Mode.GROUNDED: GROUNDED,
}
