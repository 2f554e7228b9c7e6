"""Organizations see only their own rows

Revision ID: 0005
Revises: 0004
"""

from collections.abc import Sequence

from alembic import op

from migrations.tenancy import PLATFORM_ROLE, TENANT_ROLE, keep_tenants_apart, keep_tenants_together

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

BOTH = f"{TENANT_ROLE}, {PLATFORM_ROLE}"
OF_ONE_ORGANIZATION = (
    "user_org_memberships",
    "orchestrator_instances",
    "org_plugins",
    "organization_llm_configs",
    "user_roles",
)
ONLY_READ_BY_TENANTS = ("system_plugins", "provider_models", "roles", "role_permissions")

# Roles belong to the whole server: another database of it, or another migration at this moment, may have made them.
MAKE_ROLE = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{role}') THEN
        CREATE ROLE {role} NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;
END $$
"""
OF_THE_INSTANCE = "EXISTS (SELECT FROM orchestrator_instances i WHERE i.id = instance_id)"


def upgrade() -> None:
    for role in (TENANT_ROLE, PLATFORM_ROLE):
        op.execute(MAKE_ROLE.format(role=role))
    op.execute(f"GRANT USAGE ON SCHEMA public TO {BOTH}")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {BOTH}")
    op.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {BOTH}")
    op.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {BOTH}")
    op.execute(f"ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE ON SEQUENCES TO {BOTH}")
    op.execute(f"REVOKE ALL ON alembic_version FROM {BOTH}")

    for table in ONLY_READ_BY_TENANTS:
        op.execute(f"REVOKE INSERT, UPDATE, DELETE ON {table} FROM {TENANT_ROLE}")
    # To hold a plugin against deletion while an instance adopts it; PostgreSQL asks for a column one may write.
    op.execute(f"GRANT UPDATE (updated_at) ON system_plugins TO {TENANT_ROLE}")
    # Events of all organizations: a tenant adds to them and is told the number of its own.
    op.execute(f"REVOKE ALL ON outbox FROM {TENANT_ROLE}")
    op.execute(f"GRANT INSERT, SELECT (sequence) ON outbox TO {TENANT_ROLE}")

    op.execute("""
        CREATE FUNCTION current_org_id() RETURNS uuid LANGUAGE sql STABLE PARALLEL SAFE
        RETURN nullif(current_setting('app.org_id', true), '')::uuid
    """)
    keep_tenants_apart("organizations", "id = current_org_id()")
    for table in OF_ONE_ORGANIZATION:
        keep_tenants_apart(table)
    # These have no org_id. The rows they name are looked up under the policies above, so that an instance cannot adopt
    # a credential or a plugin of somebody else either.
    keep_tenants_apart(
        "orchestrator_llm_configs",
        OF_THE_INSTANCE,
        check="EXISTS (SELECT FROM organization_llm_configs c WHERE c.id = llm_config_id)",
    )
    keep_tenants_apart(
        "orchestrator_plugins",
        OF_THE_INSTANCE,
        check="org_plugin_id IS NULL OR EXISTS (SELECT FROM org_plugins p WHERE p.id = org_plugin_id)",
    )


def downgrade() -> None:
    for table in ("orchestrator_plugins", "orchestrator_llm_configs", *OF_ONE_ORGANIZATION, "organizations"):
        keep_tenants_together(table)
    op.execute("DROP FUNCTION current_org_id()")
    # Their privileges in this database; the roles stay, since other databases of the server may use them.
    op.execute(f"DROP OWNED BY {BOTH}")
