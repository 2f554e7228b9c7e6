"""Logs are events with fields: one JSON line (or one coloured line) per fact, on standard error."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import structlog

from shared.log_lines import LogLines

LogFormat = Literal["json", "console"]

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "exception": 40, "critical": 50}
_processors: list[structlog.typing.Processor] = []
"""One list for the whole process: loggers keep the one they met first, also when logging is configured again."""


_lines = LogLines()


class _EventLogger:
    """Where an event ends that is a line by then. Python's own logging would make a record of it, format that and ask
    every logger on the way up, which costs three times as much as all that we do with it.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name

    def write(self, line: str) -> None:
        _lines.add(line)

    def write_at_once(self, line: str) -> None:
        _lines.add(line, at_once=True)

    debug = info = write
    warning = error = exception = critical = write_at_once


class _RecordHandler(logging.Handler):
    """What libraries say through Python's own logging, between our lines."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            _lines.add(self.format(record), at_once=record.levelno >= logging.WARNING)
        except Exception:
            self.handleError(record)


def configure_logging(level: str = "INFO", fmt: LogFormat = "json") -> None:
    """Send structlog and the standard library's loggers to one stream in one form. Call once, in `__main__`."""
    of_records: list[structlog.typing.Processor] = [
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
    handler = _RecordHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=of_records,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    _lines.write_at_exit()
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for noisy in ("httpx", "httpcore", "aio_pika", "aiormq", "pymongo", "asyncio", "nats"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    for noisy in ("httpx2", "httpcore2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It logs messages and what did not parse of them, which is what tenants' tools were asked and what they answered.
    logging.getLogger("mcp").setLevel(logging.CRITICAL)
    _processors[:] = [_from_level(root.level), _described, structlog.processors.StackInfoRenderer(), *renderer]
    structlog.configure(
        processors=_processors,
        logger_factory=_EventLogger,
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


def _described(logger: Any, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """What structlog's processors add to a record, in one step: every request writes a line."""
    event = structlog.contextvars.merge_contextvars(logger, method, event)
    event["level"] = "error" if method == "exception" else method
    event["logger"] = logger.name
    event["timestamp"] = datetime.now(UTC).isoformat()[:-6] + "Z"
    return event


def _as_json(_: Any, __: str, event: structlog.typing.EventDict) -> str:
    try:
        return msgspec.json.encode(event, enc_hook=repr).decode()
    except (TypeError, ValueError):
        # What msgspec takes for no JSON: keys that are no strings, halves of characters.
        return json.dumps(event, default=repr, skipkeys=True)
