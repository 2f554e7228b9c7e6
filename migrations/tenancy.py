"""Row-level security, for the migrations that make tables of organizations.

Tables get their privileges by themselves (migration 0005); what they need is a policy. A test finds those without.
"""

from alembic import op

TENANT_ROLE = "cadence_tenant"
PLATFORM_ROLE = "cadence_platform"


def keep_tenants_apart(table: str, rule: str = "org_id = current_org_id()", *, check: str | None = None) -> None:
    """A tenant sees and changes the rows for which `rule` holds, and writes those for which `check` holds as well."""
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    written = f"({rule}) AND ({check})" if check else rule
    op.execute(f"CREATE POLICY tenant ON {table} TO {TENANT_ROLE} USING ({rule}) WITH CHECK ({written})")
    op.execute(f"CREATE POLICY platform ON {table} TO {PLATFORM_ROLE} USING (true) WITH CHECK (true)")


def keep_tenants_together(table: str) -> None:
    """Undo `keep_tenants_apart`."""
    op.execute(f"DROP POLICY tenant ON {table}")
    op.execute(f"DROP POLICY platform ON {table}")
    op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
