"""The environment for a single process: the operator's own, completed from a running stack."""

from collections.abc import Mapping

from deploy.stack.data_dir import DataDirectory
from deploy.stack.secrets import StackSecrets, load_or_create


def plane_environment(directory: DataDirectory, secrets: StackSecrets, urls: Mapping[str, str]) -> dict[str, str]:
    """What both planes are told. Only what a developer's machine makes different from production."""
    return {
        **urls,
        "CADENCE_ENVIRONMENT": "development",
        "CADENCE_SECRET_KEY": secrets.secret_key,
        "CADENCE_ENCRYPTION_KEYS": secrets.encryption_keys,
        "CADENCE_WORKER_TOKEN": secrets.worker_token,
        "CADENCE_STORAGE_ROOT": str(directory.packages),
        # One for all processes: what one has fetched or installed the others need not.
        "CADENCE_PACKAGE_CACHE": str(directory.path / "package-cache"),
        # The demo model and models of the developer's own run on this machine.
        "CADENCE_ALLOW_PRIVATE_MODEL_HOSTS": "true",
    }


def completed(variables: Mapping[str, str], directory: DataDirectory) -> dict[str, str]:
    """What is missing in `variables` to work with the stack that runs from `directory`; nothing when none runs.

    A variable that the operator set wins. Where the operator names a database of their own, nothing is added at all:
    the keys of this machine have no business with it.
    """
    if "CADENCE_POSTGRES_URL" in variables or (state := directory.state()) is None:
        return {}
    filled = plane_environment(directory, load_or_create(directory), state.backing)
    filled["CADENCE_CONTROL_PLANE_URL"] = state.url
    return {name: value for name, value in filled.items() if name not in variables}
