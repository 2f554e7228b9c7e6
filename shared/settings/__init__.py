"""Settings from the environment: one frozen struct per concern, read once in `__main__`, all problems told at once.

Names are `CADENCE_*`. What may change while a process runs is not here: it is a setting in the database.
"""

from shared.settings.control_plane import ControlPlaneSettings as ControlPlaneSettings
from shared.settings.control_plane import read_control_plane_settings as read_control_plane_settings
from shared.settings.limits import LimitSettings as LimitSettings
from shared.settings.packages import DirectoryPluginSettings as DirectoryPluginSettings
from shared.settings.packages import PackageStoreSettings as PackageStoreSettings
from shared.settings.process import ProcessSettings as ProcessSettings
from shared.settings.security import SecuritySettings as SecuritySettings
from shared.settings.security import VaultSettings as VaultSettings
from shared.settings.single_sign_on import SingleSignOnSettings as SingleSignOnSettings
from shared.settings.worker import Egress as Egress
from shared.settings.worker import PluginHostSettings as PluginHostSettings
from shared.settings.worker import PoolSettings as PoolSettings
from shared.settings.worker import Prewarm as Prewarm
from shared.settings.worker import ServingSettings as ServingSettings
from shared.settings.worker import WorkerSettings as WorkerSettings
from shared.settings.worker import read_worker_settings as read_worker_settings
