"""Logs are events with fields: one JSON line (or one coloured line) per fact, on standard error."""

import json
import logging
import sys
from contextlib import suppress
from typing import Any, Literal

import msgspec
import structlog

LogFormat = Literal["json", "console"]

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "exception": 40, "critical": 50}
_processors: list[structlog.typing.Processor] = []
"""One list for the whole process: loggers keep the one they met first, also when logging is configured again."""


class _Lines:
    """Where an event ends that is a line by then. Python's own logging would make a record of it, format that and ask
    every logger on the way up, which costs three times as much as all that we do with it.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name

    def write(self, line: str) -> None:
        # A log that nobody takes any more is no reason to fail.
        with suppress(OSError, ValueError):
            sys.stderr.write(line + "\n")
            sys.stderr.flush()

    debug = info = warning = error = exception = critical = write


def configure_logging(level: str = "INFO", fmt: LogFormat = "json") -> None:
    """Send structlog and the standard library's loggers to one stream in one form. Call once, in `__main__`."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, _as_json]
        if fmt == "json"
        # The default traceback shows local variables: prompts, headers, keys.
        else [
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("httpx", "httpcore", "aio_pika", "aiormq", "pymongo", "asyncio", "nats"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for noisy in ("httpx2", "httpcore2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It logs messages and what did not parse of them, which is what tenants' tools were asked and what they answered.
    logging.getLogger("mcp").setLevel(logging.CRITICAL)
    _processors[:] = [_from_level(root.level), *shared, *renderer]
    structlog.configure(
        processors=_processors,
        logger_factory=_Lines,
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose events carry `logger=name`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def _from_level(least: int) -> structlog.typing.Processor:
    def drop(_: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if _LEVELS.get(method, least) < least:
            raise structlog.DropEvent
        return event

    return drop


def _as_json(_: Any, __: str, event: structlog.typing.EventDict) -> str:
    try:
        return msgspec.json.encode(event, enc_hook=repr).decode()
    except (TypeError, ValueError):
        # What msgspec takes for no JSON: keys that are no strings, halves of characters.
        return json.dumps(event, default=repr, skipkeys=True)
