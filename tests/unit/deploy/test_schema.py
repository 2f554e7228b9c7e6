"""The quick question whether migrations are needed."""

from alembic.script import ScriptDirectory

from deploy.stack.schema import is_newest, newest_revision
from migrations.__main__ import config


def test_the_newest_revision_is_the_one_that_alembic_calls_head() -> None:
    assert newest_revision() == ScriptDirectory.from_config(config("postgresql://unused")).get_current_head()


def test_a_migrated_database_needs_none_and_an_empty_one_does(postgres_owner_url: str, empty_postgres_url: str) -> None:
    assert is_newest(postgres_owner_url)
    assert not is_newest(empty_postgres_url)
