"""Logs are events with fields: one JSON line (or one coloured line) per fact, on standard error."""

import logging
import sys
from typing import Literal

import structlog

LogFormat = Literal["json", "console"]

_processors: list[structlog.typing.Processor] = []
"""One list for the whole process: loggers keep the one they met first, also when logging is configured again."""


def configure_logging(level: str = "INFO", fmt: LogFormat = "json") -> None:
    """Send structlog and the standard library's loggers through one pipeline. Call once, in `__main__`."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
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
    _processors[:] = [*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter]
    structlog.configure(
        processors=_processors,
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose events carry `logger=name`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger
