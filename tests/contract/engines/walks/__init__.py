"""The walk of every mode."""

from shared.frameworks import Mode
from tests.contract.engines.walk import Walk
from tests.contract.engines.walks.coordinator import CoordinatorWalk
from tests.contract.engines.walks.grounded import GroundedWalk
from tests.contract.engines.walks.handoff import HandoffWalk
from tests.contract.engines.walks.supervisor import SupervisorWalk

WALKS: dict[Mode, Walk] = {
    Mode.SUPERVISOR: SupervisorWalk(),
    Mode.COORDINATOR: CoordinatorWalk(),
    Mode.HANDOFF: HandoffWalk(),
    Mode.GROUNDED: GroundedWalk(),
}
