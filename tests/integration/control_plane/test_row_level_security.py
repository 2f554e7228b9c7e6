"""The second wall: what PostgreSQL refuses when the application forgets to."""

import re
from asyncio import Future
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
from litestar import Litestar
from sqlalchemy import Connection, Table, event, select, text, update
from sqlalchemy.exc import DBAPIError

from control_plane.database.line import Line
from control_plane.database.metadata import metadata
from control_plane.database.scopes import SCOPE, Scope
from control_plane.database.statements import Question, Row
from control_plane.llm_configs.tables import LLMConfig
from control_plane.orchestrators.tables import Orchestrator, OrchestratorLLMConfig, OrchestratorPlugin
from control_plane.organizations.tables import Organization
from control_plane.plugins.tables import SystemPlugin
from control_plane.wiring import Resources
from shared.ids import new_id
from tests.integration.control_plane.callers import Caller, World
from tests.integration.control_plane.test_every_route_keeps_tenants_apart import asked, routes_with_ids
from tests.integration.control_plane.workshop import Workshop, add_plugin

_FILTER = re.compile(r"[\w.]*\borg_id = %\(\w+\)s(::UUID)?|\borganizations\.id = %\(\w+\)s(::UUID)?")

_DIRECT_FILTER = re.compile(rb"[\w.]*\borg_id = (\$\d+)(::UUID)?")


@contextmanager
def forgotten_filters(resources: Resources) -> Iterator[list[str]]:
    """Every query of a tenant's transaction loses its own condition on the organization; the statements changed."""
    changed: list[str] = []

    def forget(connection: Connection, _: Any, statement: str, parameters: Any, __: Any, ___: bool) -> tuple[str, Any]:
        if connection.get_execution_options()[SCOPE].org_id is not None and statement.startswith(("SELECT", "WITH")):
            statement, count = _FILTER.subn("true", statement)
            if count:
                changed.append(statement)
        return statement, parameters

    def forgetful_ask(line: Line, scope: Scope, question: Question, **options: Any) -> Future[list[Row]]:
        if scope.org_id is not None:
            # The value is still given, so it has to stand somewhere.
            statement, count = _DIRECT_FILTER.subn(rb"\1::uuid IS NOT NULL", question.sql)
            if count:
                changed.append(statement.decode())
            question = Question(statement, question.values)
        return ask(line, scope, question, **options)

    engine, ask = resources.engine.sync_engine, Line.ask
    event.listen(engine, "before_cursor_execute", forget, retval=True)
    Line.ask = forgetful_ask  # type: ignore[assignment,method-assign]
    try:
        yield changed
    finally:
        Line.ask = ask  # type: ignore[method-assign]
        event.remove(engine, "before_cursor_execute", forget)


@pytest.fixture
async def theirs(world: World, resources: Resources) -> Workshop:
    shop = await Workshop.open(world, resources)
    await shop.orchestrator()
    await add_plugin(resources, "com.theirs.secret", org_id=shop.tenant.org_id)
    return shop


@pytest.fixture
async def mine(world: World, resources: Resources, theirs: Workshop) -> Workshop:
    return await Workshop.open(world, resources, calculator_id=theirs.calculator_id)


async def test_an_application_that_forgets_its_filters_still_shows_nothing_of_others(
    resources: Resources, theirs: Workshop, mine: Workshop
) -> None:
    lists = ("/orchestrators", "/llm-configs", "/users", "/plugins?source=org")
    before = {path: (await mine.admin.get(mine.tenant.path + path)).json() for path in lists}

    with forgotten_filters(resources) as changed:
        for path in lists:
            assert (await mine.admin.get(mine.tenant.path + path)).json() == before[path], path

    assert len(changed) >= len(lists)


async def test_an_application_that_forgets_its_filters_still_finds_nothing_of_others(
    routes: Litestar, resources: Resources, theirs: Workshop, mine: Workshop
) -> None:
    instance = (await theirs.admin.get(theirs.path)).json()["items"][0]
    ids = {
        "org_id": mine.tenant.org_id,
        "user_id": str(theirs.member.user_id),
        "config_id": theirs.llm_config_id,
        "plugin_id": await add_plugin(resources, "com.theirs.other", org_id=theirs.tenant.org_id),
        "upload_id": str(new_id()),
        "pid": "com.theirs.secret",
        "instance_id": instance["instance_id"],
        "central_id": (await theirs.central_point(instance["instance_id"]))["central_id"],
        "operation": "chat",
        "rest": str(new_id()),
    }
    unknown = {**{name: str(new_id()) for name in ids}, "org_id": mine.tenant.org_id, "pid": "com.nobodys.thing"}
    unknown["operation"] = "chat"

    with forgotten_filters(resources) as changed:
        for method, template in sorted(routes_with_ids(routes)):
            if template.startswith("/api/orgs/{org_id}/") and template.count("{") > 1:
                about_theirs = await asked(mine.admin, method, template, ids)
                assert about_theirs[0] >= 400, (method, template)
                assert about_theirs == await asked(mine.admin, method, template, unknown), (method, template)

    assert changed
    assert (await theirs.admin.get(theirs.path)).json()["items"] == [instance]


async def test_a_tenants_transaction_writes_nothing_of_others(
    resources: Resources, theirs: Workshop, mine: Workshop
) -> None:
    my_id, their_id = UUID(mine.tenant.org_id), UUID(theirs.tenant.org_id)
    made = UUID((await mine.orchestrator())["instance_id"])
    stolen = UUID(theirs.llm_config_id)
    async with resources.database() as session:
        (their_instance,) = await session.scalars(select(Orchestrator.id).where(Orchestrator.org_id == their_id))
        their_plugin = await add_plugin(resources, "com.theirs.third", org_id=theirs.tenant.org_id)

    async with resources.database(my_id) as session:
        changed = await session.execute(update(Organization).values(name="mine now"))
        renamed = await session.execute(update(Orchestrator).values(name="mine now"))
        await session.commit()
    assert (changed.rowcount, renamed.rowcount) == (1, 1)  # type: ignore[attr-defined]  # an UPDATE has one

    key = {"provider": "openai", "additional_config": {}, "sealed_api_key": "x", "key_fingerprint": "x"}
    for forbidden in (
        LLMConfig(org_id=their_id, name="planted", key_last4="x", **key),
        OrchestratorLLMConfig(instance_id=made, llm_config_id=stolen),
        OrchestratorLLMConfig(instance_id=their_instance, llm_config_id=UUID(mine.llm_config_id)),
        OrchestratorPlugin(instance_id=made, position=9, org_plugin_id=UUID(their_plugin)),
        SystemPlugin(pid="com.evil", version="1", name="", description="", manifest={}, digest="", package_key=""),
    ):
        async with resources.database(my_id) as session:
            session.add(forbidden)
            with pytest.raises(DBAPIError, match=r"row-level security|permission denied"):
                await session.flush()


async def test_a_connection_without_a_scope_sees_no_organization(resources: Resources, theirs: Workshop) -> None:
    for engine in (resources.engine, resources.engine.execution_options(isolation_level="AUTOCOMMIT")):
        async with engine.connect() as connection:
            assert (await connection.execute(text("SELECT count(*) FROM organizations"))).scalar_one() == 0
    # And nothing of a scope stays on a connection for whoever has it next.
    async with resources.database(UUID(theirs.tenant.org_id)) as session:
        assert len((await session.scalars(select(Organization))).all()) == 1
    async with resources.engine.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM organizations"))).scalar_one() == 0


async def test_reads_without_a_transaction_keep_to_their_organization_on_shared_connections(
    resources: Resources, theirs: Workshop, mine: Workshop
) -> None:
    await mine.orchestrator()
    for _ in range(3):
        for shop in (theirs, mine):
            (shown,) = (await shop.member.get(shop.path)).json()["items"]
            assert shown["org_id"] == shop.tenant.org_id
            assert (await shop.member.get("/api/me/orgs")).json()["items"][0]["org_id"] == shop.tenant.org_id


def test_the_applications_login_owns_nothing_and_bypasses_nothing(postgres_url: str) -> None:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        rights = connection.execute(
            "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
        owned = connection.execute("SELECT count(*) FROM pg_class WHERE pg_get_userbyid(relowner) = current_user")
        assert (rights, owned.fetchone()) == ((False, False, False, False), (0,))
        for statement in ("SELECT * FROM organizations", "SELECT * FROM users", "INSERT INTO roles DEFAULT VALUES"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
        connection.execute("SET ROLE cadence_tenant")
        for statement in (
            "SET ROLE cadence",
            "ALTER TABLE organizations DISABLE ROW LEVEL SECURITY",
            "DROP POLICY tenant ON organizations",
            "SELECT payload FROM outbox",
            "UPDATE system_plugins SET enabled = false",
            "SELECT * FROM alembic_version",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)


def test_every_table_of_organizations_has_its_policy(postgres_owner_url: str) -> None:
    with psycopg.connect(postgres_owner_url) as connection:
        protected = {
            row[0]
            for row in connection.execute(
                "SELECT tablename FROM pg_policies JOIN pg_class ON relname = tablename"
                " WHERE policyname = 'tenant' AND relrowsecurity AND roles = '{cadence_tenant}'"
            )
        }

    assert protected == {table.name for table in metadata.tables.values() if _is_of_organizations(table)}


def _is_of_organizations(table: Table) -> bool:
    """Has an `org_id`, or belongs to something that has."""
    if table.name == "organizations" or "org_id" in table.columns:
        return True
    owners = [key.column.table for key in table.foreign_keys if key.ondelete == "CASCADE"]
    return any(_is_of_organizations(owner) for owner in owners)


async def test_the_platform_sees_every_organization(root: Caller, theirs: Workshop, mine: Workshop) -> None:
    listed = {o["org_id"] for o in (await root.get("/api/admin/orgs")).json()["items"]}
    assert listed == {theirs.tenant.org_id, mine.tenant.org_id}
