"""One tree of domain errors. Each has a kind, from which the edges choose a status, and a stable public code.

Codes are `PREFIX-NNNN`: SY system, VA validation, AU authentication, AZ authorization, RE resource, RL rate limit,
OR orchestrator, PL plugin, LL model, DB store, CF configuration. The modules below hold one noun each; together they
are the catalogue: every code belongs to exactly one class (a test holds it), and the OpenAPI document lists them from
here. A new class is added to its module and to this list.
"""

from shared.errors.access import ConversationTokenRefused as ConversationTokenRefused
from shared.errors.access import IdentityProviderUnavailable as IdentityProviderUnavailable
from shared.errors.access import LocalPasswordsOff as LocalPasswordsOff
from shared.errors.access import NotAuthenticated as NotAuthenticated
from shared.errors.access import OrganizationSuspended as OrganizationSuspended
from shared.errors.access import PermissionMissing as PermissionMissing
from shared.errors.access import SingleSignOnRefused as SingleSignOnRefused
from shared.errors.access import WrongCredentials as WrongCredentials
from shared.errors.base import DomainError as DomainError
from shared.errors.base import FieldError as FieldError
from shared.errors.base import Kind as Kind
from shared.errors.base import catalogue as catalogue
from shared.errors.base import error_for as error_for
from shared.errors.configuration import ConfigurationInvalid as ConfigurationInvalid
from shared.errors.configuration import KeyServiceUnavailable as KeyServiceUnavailable
from shared.errors.configuration import SecretUnreadable as SecretUnreadable
from shared.errors.configuration import SettingFixed as SettingFixed
from shared.errors.limits import BudgetSpent as BudgetSpent
from shared.errors.limits import MessagesSpent as MessagesSpent
from shared.errors.limits import QuotaReached as QuotaReached
from shared.errors.limits import RateLimited as RateLimited
from shared.errors.limits import TokensSpent as TokensSpent
from shared.errors.limits import TooManyRuns as TooManyRuns
from shared.errors.models import ModelAddressRefused as ModelAddressRefused
from shared.errors.models import ModelCredentialRefused as ModelCredentialRefused
from shared.errors.models import ModelError as ModelError
from shared.errors.models import ModelProtocolError as ModelProtocolError
from shared.errors.models import ModelRateLimited as ModelRateLimited
from shared.errors.models import ModelRequestRefused as ModelRequestRefused
from shared.errors.models import ModelTimedOut as ModelTimedOut
from shared.errors.models import ModelUnavailable as ModelUnavailable
from shared.errors.orchestrators import ConversationBusy as ConversationBusy
from shared.errors.orchestrators import LLMConfigDisabled as LLMConfigDisabled
from shared.errors.orchestrators import OrchestratorBuildFailed as OrchestratorBuildFailed
from shared.errors.orchestrators import OrchestratorDeactivated as OrchestratorDeactivated
from shared.errors.orchestrators import OrchestratorNotLoaded as OrchestratorNotLoaded
from shared.errors.orchestrators import RunCancelled as RunCancelled
from shared.errors.orchestrators import RunEventsGone as RunEventsGone
from shared.errors.orchestrators import RunFailed as RunFailed
from shared.errors.orchestrators import RunTimedOut as RunTimedOut
from shared.errors.orchestrators import UnsupportedCombination as UnsupportedCombination
from shared.errors.orchestrators import WorkerLost as WorkerLost
from shared.errors.plugins import DependenciesUnavailable as DependenciesUnavailable
from shared.errors.plugins import MCPServerUnavailable as MCPServerUnavailable
from shared.errors.plugins import PackageIndexUnavailable as PackageIndexUnavailable
from shared.errors.plugins import PluginLoadFailed as PluginLoadFailed
from shared.errors.plugins import PluginNotFound as PluginNotFound
from shared.errors.plugins import PluginRefused as PluginRefused
from shared.errors.plugins import PluginSettingsInvalid as PluginSettingsInvalid
from shared.errors.plugins import PluginVersionExists as PluginVersionExists
from shared.errors.plugins import ToolFailed as ToolFailed
from shared.errors.requests import BodyTooLarge as BodyTooLarge
from shared.errors.requests import IdempotencyKeyReused as IdempotencyKeyReused
from shared.errors.requests import ImmutableField as ImmutableField
from shared.errors.requests import InvalidRequest as InvalidRequest
from shared.errors.requests import MalformedRequest as MalformedRequest
from shared.errors.requests import UnsupportedMediaType as UnsupportedMediaType
from shared.errors.resources import AlreadyExists as AlreadyExists
from shared.errors.resources import Conflict as Conflict
from shared.errors.resources import Gone as Gone
from shared.errors.resources import InUse as InUse
from shared.errors.resources import LastAdmin as LastAdmin
from shared.errors.resources import NotFound as NotFound
from shared.errors.resources import StaleRevision as StaleRevision
from shared.errors.system import BrokerUnavailable as BrokerUnavailable
from shared.errors.system import Draining as Draining
from shared.errors.system import HeadersTooLarge as HeadersTooLarge
from shared.errors.system import MethodNotAllowed as MethodNotAllowed
from shared.errors.system import NoLiveWorker as NoLiveWorker
from shared.errors.system import StoreUnavailable as StoreUnavailable
from shared.errors.system import WorkerBusy as WorkerBusy
from shared.errors.system import WorkerConnectionLost as WorkerConnectionLost
