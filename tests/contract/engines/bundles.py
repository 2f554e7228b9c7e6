"""The plugins of the scenarios."""

import asyncio

from tests.fakes.plugin_bundle import FunctionBundle

CALC = "com.acme.calc"
WORDS = "com.acme.words"


def add(a: int, b: int) -> int:
    """Add two integers."""
    return a + b


def divide(a: int, b: int) -> float:
    """Divide two integers."""
    return a / b


async def hang() -> None:
    """Never come back."""
    await asyncio.Event().wait()


def upper(text: str) -> str:
    """Write a text in capital letters."""
    return text.upper()


def explode() -> None:
    """Break in a way that no plugin bundle may."""
    raise RuntimeError("internal detail /etc/passwd")


CALC_TOOLS = (add, divide, hang, explode)


def calc() -> FunctionBundle:
    return FunctionBundle(CALC, *CALC_TOOLS)


def words() -> FunctionBundle:
    return FunctionBundle(WORDS, upper)
