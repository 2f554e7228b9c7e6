"""Contracts and the registry of a process."""

import threading
from typing import Any

import pytest
from cadence_sdk import BasePlugin, PluginContract, PluginRegistry, register_plugin

MakePlugin = Any


def test_a_contract_shows_what_its_plugin_says(echo_plugin: type[BasePlugin], ticket_plugin: type[BasePlugin]) -> None:
    contract, ticket = PluginContract(echo_plugin), PluginContract(ticket_plugin)

    assert (contract.pid, contract.name, contract.version) == ("com.test.echo", "Echo", "1.0.0")
    assert (contract.description, contract.capabilities) == ("Says it again", ["echo"])
    assert (contract.is_specialized, contract.is_scoped, contract.is_stateless) == (False, False, True)
    assert (ticket.is_specialized, ticket.is_scoped) == (True, True)
    assert contract.create_agent() is not contract.create_agent()
    assert (contract.validate_dependencies(), contract.health_check()) == ([], {"status": "unknown"})


def test_contracts_are_equal_by_pid_and_version(make_plugin: MakePlugin) -> None:
    one, same, newer = (PluginContract(make_plugin(version=v)) for v in ("1.0.0", "1.0.0", "1.1.0"))

    assert one == same
    assert len({one, same, newer}) == 2
    assert one != "com.test.echo"


@pytest.mark.parametrize("what", [object, "text", 3])
def test_only_plugins_are_taken(what: Any, registry: PluginRegistry) -> None:
    for take in (PluginContract, registry.register):
        with pytest.raises(TypeError, match="must inherit from BasePlugin"):
            take(what)


def test_the_higher_version_wins_whatever_comes_first(registry: PluginRegistry, make_plugin: MakePlugin) -> None:
    for version in ("1.9.0", "1.10.0", "1.2.0"):
        registry.register(make_plugin(version=version))

    found = registry.get_plugin("com.test.echo")
    assert found is not None
    assert found.version == "1.10.0"
    assert registry.get_plugin_by_version("com.test.echo", "1.10.0") is found
    assert registry.get_plugin_by_version("com.test.echo", "1.9.0") is None


def test_an_override_forces_a_lower_version(registry: PluginRegistry, make_plugin: MakePlugin) -> None:
    registry.register(make_plugin(version="2.0.0"))

    assert registry.register(make_plugin(version="1.0.0"), override=True).version == "1.0.0"
    assert [c.version for c in registry.list_registered_plugins()] == ["1.0.0"]


def test_plugins_are_found_by_what_they_are(
    registry: PluginRegistry, echo_plugin: type[BasePlugin], ticket_plugin: type[BasePlugin]
) -> None:
    echo, ticket = registry.register(echo_plugin), registry.register(ticket_plugin)

    assert registry.get_all_ids() == ["com.test.echo", "com.test.ticket"]
    assert registry.list_plugins_by_capability("echo") == [echo]
    assert registry.list_plugins_by_type("specialized") == registry.list_plugins_by_type("scoped") == [ticket]
    assert registry.list_plugins_by_type("other") == []


def test_what_is_unregistered_is_gone(registry: PluginRegistry, echo_plugin: type[BasePlugin]) -> None:
    registry.register(echo_plugin)

    assert registry.has_plugin("com.test.echo")
    assert registry.unregister("com.test.echo") is True
    assert registry.unregister("com.test.echo") is False
    registry.register(echo_plugin)
    registry.clear_all()
    assert registry.get_plugin("com.test.echo") is None


def test_there_is_one_registry_for_the_process(make_plugin: MakePlugin) -> None:
    plugin = make_plugin(pid="com.test.only_here")
    try:
        assert register_plugin(plugin) == PluginRegistry.instance().get_plugin("com.test.only_here")
    finally:
        PluginRegistry.instance().unregister("com.test.only_here")


def test_registrations_of_many_threads_at_once_all_count(registry: PluginRegistry, make_plugin: MakePlugin) -> None:
    start = threading.Barrier(8)

    def register(number: int) -> None:
        start.wait()
        for version in range(20):
            registry.register(make_plugin(pid=f"com.test.p{number % 4}", version=f"1.{version}"))

    threads = [threading.Thread(target=register, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted((c.pid, c.version) for c in registry.list_registered_plugins()) == [
        (f"com.test.p{number}", "1.19") for number in range(4)
    ]


def test_a_stateful_plugin_says_so(make_plugin: MakePlugin) -> None:
    assert PluginContract(make_plugin(stateless=False)).is_stateless is False
