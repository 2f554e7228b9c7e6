"""In production: secrets that are the same as another one, and passwords that everybody tries first."""

from collections.abc import Mapping

from shared.environment_variables import PREFIX, Environment
from shared.settings.security import SecuritySettings
from shared.weak_secrets import weakness_of_password, weakness_of_url


def refuse_weak(
    env: Environment, security: SecuritySettings, *, urls: Mapping[str, str], passwords: Mapping[str, str | None]
) -> None:
    """`urls` and `passwords` are what the variables of these names say."""
    if security.secret_key and security.secret_key == security.worker_token:
        env.problems.append(f"{PREFIX}WORKER_TOKEN: is the same as {PREFIX}SECRET_KEY; each needs one of its own")
    weaknesses = {
        **{name: weakness_of_url(url) for name, url in urls.items()},
        **{name: weakness_of_password(password) for name, password in passwords.items()},
    }
    env.problems += [f"{PREFIX}{name}: {weakness}" for name, weakness in weaknesses.items() if weakness]
