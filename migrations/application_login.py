"""The login that the application uses: it owns nothing, and may only become the roles of migration 0005."""

from sqlalchemy import Connection, make_url, text

from migrations.tenancy import PLATFORM_ROLE, TENANT_ROLE


def admit(connection: Connection, application_url: str) -> None:
    """Let the login of `application_url` become the application's roles, and make it when there is none of that name.

    Its password is set only then. Without privileges of its own (`INHERIT FALSE`) a transaction that took no role can
    do nothing.
    """
    url = make_url(application_url)
    login = url.username or ""
    # What PostgreSQL itself says is quoted for the statement: neither takes parameters.
    name, password = connection.execute(
        text("SELECT quote_ident(:login), quote_literal(:password)"),
        {"login": login, "password": str(url.password or "")},
    ).one()
    known = connection.execute(text("SELECT rolsuper FROM pg_roles WHERE rolname = :login"), {"login": login}).first()
    if known is None:
        secret = f"PASSWORD {password}" if url.password else ""
        _execute(
            connection,
            f"CREATE ROLE {name} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS {secret}",
        )
    if known is None or not known.rolsuper:
        _execute(connection, f"GRANT {TENANT_ROLE}, {PLATFORM_ROLE} TO {name} WITH INHERIT FALSE, SET TRUE")


def _execute(connection: Connection, statement: str) -> None:
    # Not `text`, which would read a colon in a password as the beginning of a parameter.
    connection.exec_driver_sql(statement.replace("%", "%%"))
