"""Reading variables of the environment: typed, with every problem told at once."""

from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

from shared.errors import ConfigurationInvalid

T = TypeVar("T")
PREFIX = "CADENCE_"


class Environment:
    """Reads variables and gathers every problem, so that an operator fixes them in one go."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.problems: list[str] = []

    def text(self, *names: str, default: str | None = None, required: bool = False) -> str:
        """The first of `names` that is set and not empty, else the default."""
        for name in names:
            if value := self._variables.get(PREFIX + name, "").strip():
                return value
        if required and default is None:
            self.problems.append(f"{PREFIX}{names[0]} is not set")
        return default or ""

    def parsed(self, name: str, parse: Callable[[str], T], fallback: T, *, default: str | None = None) -> T:
        """A value run through `parse`; a ValueError or ConfigurationInvalid becomes a problem naming the variable."""
        text = self.text(name, default=default, required=default is None)
        if not text:
            return fallback
        try:
            return parse(text)
        except (ValueError, ConfigurationInvalid) as error:
            self.problems.append(f"{PREFIX}{name}: {error}")
            return fallback

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        def parse(text: str) -> int:
            try:
                value = int(text)
            except ValueError:
                raise ValueError(f"{text!r} is not a whole number") from None
            if not low <= value <= high:
                raise ValueError(f"{value} is not between {low} and {high}")
            return value

        return self.parsed(name, parse, default, default=str(default))

    def flag(self, name: str, *, default: bool) -> bool:
        def parse(text: str) -> bool:
            match text.lower():
                case "1" | "true" | "yes" | "on":
                    return True
                case "0" | "false" | "no" | "off":
                    return False
                case _:
                    raise ValueError(f"{text!r} is neither true nor false")

        return self.parsed(name, parse, default, default=str(default))

    def choice(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        def parse(text: str) -> str:
            if text not in allowed:
                raise ValueError(f"{text!r} is not one of {', '.join(allowed)}")
            return text

        return self.parsed(name, parse, default, default=default)

    def names(self, name: str) -> tuple[str, ...]:
        return tuple(part.strip() for part in self.text(name).split(",") if part.strip())

    def url(self, *names: str, schemes: tuple[str, ...]) -> str:
        value = self.text(*names, required=True)
        if value and urlsplit(value).scheme not in schemes:
            # The value itself may hold a password, so only the scheme is named.
            self.problems.append(
                f"{PREFIX}{names[0]}: the URL must start with {' or '.join(s + '://' for s in schemes)}"
            )
        return value

    def finish(self, settings: T) -> T:
        """The settings, or ConfigurationInvalid with every problem, one a line."""
        if self.problems:
            raise ConfigurationInvalid("\n".join(self.problems))
        return settings
