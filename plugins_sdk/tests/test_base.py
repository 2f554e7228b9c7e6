"""Metadata, agents, logging, errors."""

import logging
from typing import Any

import pytest
from cadence_sdk import BaseAgent, BasePlugin, CadenceException, Loggable, PluginMetadata

REQUIRED: dict[str, Any] = {"pid": "com.test", "name": "Test", "version": "1.0.0", "description": "A test"}


def test_metadata_has_the_published_defaults() -> None:
    metadata = PluginMetadata(**REQUIRED)

    assert metadata.to_dict() == {
        **REQUIRED,
        "capabilities": [],
        "dependencies": [],
        "sdk_version": ">=2.0.0,<3.0.0",
        "stateless": True,
    }


@pytest.mark.parametrize("field", REQUIRED)
def test_metadata_needs_its_four_texts(field: str) -> None:
    with pytest.raises(ValueError, match=f"Plugin {field} cannot be empty"):
        PluginMetadata(**{**REQUIRED, field: ""})


@pytest.mark.parametrize("version", ["1", "1.2.3.4", "1..2", "1."])
def test_a_version_has_two_or_three_parts(version: str) -> None:
    with pytest.raises(ValueError, match="Invalid version format"):
        PluginMetadata(**{**REQUIRED, "version": version})
    assert PluginMetadata(**{**REQUIRED, "version": "1.2"}).version == "1.2"


def test_metadata_of_a_newer_sdk_still_reads() -> None:
    metadata = PluginMetadata(**REQUIRED, capabilities=["a"], stateless=False)

    assert PluginMetadata.from_dict({**metadata.to_dict(), "agent_type": "specialized"}) == metadata


def test_plugins_and_agents_without_their_methods_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="get_tools"):
        type("Agent", (BaseAgent,), {})()
    with pytest.raises(TypeError, match="create_agent"):
        type("Plugin", (BasePlugin,), {"get_metadata": staticmethod(lambda: None)})()


async def test_optional_methods_do_nothing_by_default(echo_plugin: type[BasePlugin]) -> None:
    agent = echo_plugin.create_agent()
    agent.initialize({"any": "thing"})
    await agent.cleanup()

    assert echo_plugin.validate_dependencies() == []
    assert echo_plugin.get_settings_schema() == []
    assert echo_plugin.health_check() == {"status": "unknown"}


class Speaker(Loggable):
    pass


def test_a_logger_is_named_after_the_class_and_kept() -> None:
    speaker = Speaker()
    speaker.set_log_level("WARNING")

    assert speaker.logger is speaker.logger
    assert speaker.logger.name.endswith("Speaker")
    assert speaker.logger.level == logging.WARNING


class QuotaExceeded(CadenceException):
    @property
    def error_category(self) -> str:
        return "quota"


def test_an_authors_error_carries_what_the_platform_may_want_to_know() -> None:
    error = QuotaExceeded("too much", code="QUOTA", status_code=429, field="n", details={"left": 0})

    assert (str(error), error.code, error.status_code, error.field) == ("too much", "QUOTA", 429, "n")
    assert (error.details, error.error_category) == ({"left": 0}, "quota")


def test_the_root_of_the_errors_cannot_be_raised_itself() -> None:
    abstract: Any = CadenceException
    with pytest.raises(TypeError, match="error_category"):
        raise abstract("no category")
