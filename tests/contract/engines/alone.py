"""One framework in a process of its own, under watch: where it connects to, what it reads, what it loads.

    python -m tests.contract.engines.alone langgraph

Plays a few scenarios of every mode that the framework runs. Each connection and each name looked up is a line on
standard error at the moment it happens, until the process has ended, because exporters flush last. What else was seen
is a JSON object on the last line of standard output.
"""

import asyncio
import os
import sys
import time

import msgspec

from shared.frameworks import Framework, Mode

CONNECTION = "connected: "
FRAMEWORK_MODULES = {
    Framework.LANGGRAPH: ("langgraph", "langchain_core"),
    Framework.OPENAI_AGENTS: ("agents",),
    Framework.GOOGLE_ADK: ("google.adk",),
}
SCENARIOS = ("plain_answer", "one_tool", "a_model_that_fails_is_answered_for-error_handler_node-server_error")
SECRETS = ("KEY", "TOKEN", "SECRET", "CREDENTIALS", "PASSWORD")


class Seen(msgspec.Struct):
    """`loaded_…` are frameworks whose packages were imported. `secrets_read` are variables that were looked at while
    instances were built and run. `credentials` are the keys that the model got. `imported_by_turns` are modules that a
    prepared framework had still to import, for which a turn would stop all others."""

    address: str
    loaded_at_start: list[str]
    loaded_at_end: list[str]
    import_seconds: float
    secrets_read: list[str]
    credentials: list[str]
    answers: list[str]
    has_default_client: bool
    imported_by_turns: list[str]


def watch_connections() -> None:
    def hook(event: str, arguments: tuple[object, ...]) -> None:
        match event, arguments:
            case "socket.connect", (_, (host, port, *_)):
                os.write(2, f"{CONNECTION}{host}:{port}\n".encode())
            case "socket.connect", (_, path):
                os.write(2, f"{CONNECTION}{path!r}\n".encode())
            case "socket.getaddrinfo", (host, *_):
                os.write(2, f"{CONNECTION}name {host!r}\n".encode())
            case "socket.sendto", (_, address):
                os.write(2, f"{CONNECTION}{address!r}\n".encode())

    sys.addaudithook(hook)


class WatchedEnvironment:
    """Remembers which variables were asked for, whichever way."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def watch(self) -> None:
        names, read = self.names, type(os.environ).__getitem__

        def reading(environment: "os._Environ[str]", name: str) -> str:
            names.add(str(name))
            return read(environment, name)

        type(os.environ).__getitem__ = reading  # type: ignore[assignment,method-assign]

    @property
    def secrets(self) -> list[str]:
        return sorted(name for name in self.names if any(word in name.upper() for word in SECRETS))


def loaded() -> list[str]:
    return [f for f, modules in FRAMEWORK_MODULES.items() if any(module in sys.modules for module in modules)]


async def main(framework: Framework) -> Seen:
    import runtime_worker.wiring  # noqa: F401 - what every worker has loaded before its first instance
    from runtime_worker.engines.registry import engine_for, prepare_engine
    from runtime_worker.models.connections import ModelConnections
    from runtime_worker.models.registry import ModelRegistry
    from tests.contract.engines import scenarios
    from tests.contract.engines.catalogue import SCENARIOS as CATALOGUE
    from tests.contract.engines.meanwhile import MovedTime
    from tests.contract.engines.moves import ScenarioModel
    from tests.contract.engines.playing import play
    from tests.fakes.instances import KEYRING

    assert scenarios.__all__
    at_start = loaded()
    started = time.perf_counter()
    modes = list(Mode)
    engine_for(framework, modes[0])
    import_seconds = time.perf_counter() - started
    for mode in modes[1:]:
        engine_for(framework, mode)
    environment = WatchedEnvironment()
    clock = MovedTime(asyncio.get_running_loop())
    credentials: set[str] = set()
    answers: list[str] = []
    async with ScenarioModel() as model, ModelConnections(allow_private=True) as connections:
        environment.watch()  # After Python's own TLS has looked for SSLKEYLOGFILE.
        registry = ModelRegistry(connections, KEYRING)
        await asyncio.to_thread(prepare_engine, framework, modes[0])
        imported = set(sys.modules)
        for mode in modes:
            for name in SCENARIOS:
                played = await play(framework, CATALOGUE[mode][name], model, registry, clock)
                credentials |= {call.api_key for call in played.calls}
                answers.append(played.sink.text)
                model.forget()
        address = model.base_url.removeprefix("http://").removesuffix("/v1")
    return Seen(
        address=address,
        loaded_at_start=at_start,
        loaded_at_end=loaded(),
        import_seconds=import_seconds,
        secrets_read=environment.secrets,
        credentials=sorted(credentials),
        answers=answers,
        has_default_client=has_default_client(),
        imported_by_turns=sorted(name for name in sys.modules.keys() - imported if not name.startswith("tests.")),
    )


def has_default_client() -> bool:
    """Whether an SDK was given something that every tenant of the process would share."""
    found: list[object] = []
    if shared := sys.modules.get("agents.models._openai_shared"):
        found += [shared.get_default_openai_client(), shared.get_default_openai_key()]
    if openai := sys.modules.get("openai"):
        found += [openai.api_key, openai.base_url]
    if langchain := sys.modules.get("langchain_core.globals"):
        found.append(langchain.get_llm_cache())
    return any(one is not None for one in found)


if __name__ == "__main__":
    watch_connections()
    sys.stdout.buffer.write(msgspec.json.encode(asyncio.run(main(Framework(sys.argv[1])))))
