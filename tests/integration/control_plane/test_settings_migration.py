"""Instances that were stored with every default written down keep exactly what their admins had said."""

import json
from typing import Any
from uuid import UUID, uuid4

import psycopg
from alembic import command

from migrations.__main__ import config

LLM_CONFIG = str(UUID(int=1))


def test_only_what_was_given_stays_in_a_config(empty_postgres_url: str) -> None:
    command.upgrade(config(empty_postgres_url), "0003")
    stored: dict[str, Any] = {
        "default_llm_config_id": LLM_CONFIG,
        "default_model_name": None,
        "default_temperature": 0.0,
        "default_max_tokens": None,
        "conversation_starters": [],
        "mode_config": {
            "run_timeout": 300.0,
            "max_tool_rounds": 7,
            "enabled_suggestion": True,
            "enabled_auto_compact": True,
            "synthesizer_node": {"temperature": 0.0},
            "autocompact": {},
        },
    }
    with psycopg.connect(empty_postgres_url, autocommit=True) as connection:
        org_id, instance_id = uuid4(), uuid4()
        connection.execute(
            "INSERT INTO organizations (id, name, status, tier, is_deleted) VALUES (%s, 'a', 'active', 'free', false)",
            [org_id],
        )
        connection.execute(
            "INSERT INTO orchestrator_instances (id, org_id, name, framework_type, mode, status, tier, is_unloaded,"
            " whoami, config, plugin_settings, config_hash, is_deleted)"
            " VALUES (%s, %s, 'n', 'langgraph', 'supervisor', 'active', 'demand', false, '', %s, '{}', '', false)",
            [instance_id, org_id, json.dumps(stored)],
        )
        command.upgrade(config(empty_postgres_url), "0009")
        row = connection.execute("SELECT config FROM orchestrator_instances").fetchone()
        assert row is not None
        assert row[0] == {
            "default_llm_config_id": LLM_CONFIG,
            "default_temperature": 0.0,
            "mode_config": {
                "max_tool_rounds": 7,
                "enabled_suggestion": True,
                "synthesizer_node": {"temperature": 0.0},
            },
        }
        command.downgrade(config(empty_postgres_url), "0003")
        command.upgrade(config(empty_postgres_url), "head")


def test_the_migrations_make_exactly_the_tables_that_the_code_declares(empty_postgres_url: str) -> None:
    command.upgrade(config(empty_postgres_url), "head")
    command.check(config(empty_postgres_url))
