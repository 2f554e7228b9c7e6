"""`python -m control_plane.bootstrap`: make the first sys_admin and print the way in, once.

Prints one JSON object `{user_id, username, password, token}` to standard output. Exit codes: 0 made, 2 bad settings,
3 there is a sys_admin already (`--add-sys-admin` makes another), 4 the name or the email is taken or not acceptable.
"""

import argparse
import asyncio
import os
import secrets
import sys
from datetime import timedelta

from shared.heap import importing

with importing():
    import msgspec
    from redis.exceptions import RedisError
    from sqlalchemy import text
    from sqlalchemy.exc import SQLAlchemyError

    from control_plane.users.schemas import UserBody
    from control_plane.wiring import Resources
    from control_plane.wiring.access import provide_users
    from shared.errors import AlreadyExists, ConfigurationInvalid
    from shared.logging import configure_logging
    from shared.settings import ControlPlaneSettings, read_control_plane_settings

PASSWORD_BYTES = 18
"""144 random bits, 24 characters."""

# Two that start together must not both find no sys_admin.
_LOCK = text("SELECT pg_advisory_xact_lock(213702865)")


class Bootstrapped(msgspec.Struct):
    user_id: str
    username: str
    password: str
    token: str


class SysAdminExists(Exception):
    """Bootstrapping is for a platform without a sys_admin, unless told otherwise."""


async def bootstrap(settings: ControlPlaneSettings, body: UserBody, *, add: bool) -> Bootstrapped:
    """Make the sys_admin and log them in. Raises SysAdminExists, AlreadyExists."""
    resources = Resources(settings)
    async with resources.running(), resources.database() as session:
        await session.execute(_LOCK)
        users = provide_users(session, resources)
        if not add and await users.has_sys_admin():
            raise SysAdminExists
        user = await users.create(username=body.username, password=body.password, email=body.email, is_sys_admin=True)
        login = await resources.sessions.start(user.id, timedelta(minutes=settings.security.access_token_minutes))
        await session.commit()
        token = resources.tokens.issue(
            user.id, login.session_id, issued_at=login.created_at, expires_at=login.expires_at
        )
        return Bootstrapped(str(user.id), user.username, body.password, token)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m control_plane.bootstrap", description="Make the first sys_admin.")
    parser.add_argument("--username", default="admin")
    parser.add_argument("--email")
    parser.add_argument("--password", help="at least 8 characters; a strong one is made when none is given")
    parser.add_argument("--add-sys-admin", action="store_true", help="also when there is a sys_admin already")
    given = parser.parse_args(arguments)
    try:
        settings = read_control_plane_settings(os.environ)
    except ConfigurationInvalid as error:
        return _fail(2, str(error))
    # The variable is for programs: arguments are seen by everybody who can list processes.
    # On standard error: standard output holds the one JSON object and nothing else.
    configure_logging(settings.process.log_level, settings.process.log_format)
    password = given.password or os.environ.get("CADENCE_ADMIN_PASSWORD") or secrets.token_urlsafe(PASSWORD_BYTES)
    try:
        # The same bounds as over the API.
        body = msgspec.convert({"username": given.username, "password": password, "email": given.email}, UserBody)
        made = asyncio.run(bootstrap(settings, body, add=given.add_sys_admin))
    except msgspec.ValidationError as error:
        return _fail(4, str(error))
    except SysAdminExists:
        return _fail(3, "there is a sys_admin already; use --add-sys-admin to make another one")
    except AlreadyExists as error:
        return _fail(4, error.detail)
    except (SQLAlchemyError, RedisError) as error:
        return _fail(1, f"PostgreSQL or Redis did not do it: {error}")
    sys.stdout.write(msgspec.json.encode(made).decode() + "\n")
    return 0


def _fail(code: int, message: str) -> int:
    sys.stderr.write(f"{message}\n")
    return code


if __name__ == "__main__":
    raise SystemExit(main())
