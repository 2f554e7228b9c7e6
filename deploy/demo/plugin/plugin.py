"""Everyday arithmetic: a calculator and a unit converter. No network, no dependencies, no state."""

from typing import Any

from cadence_sdk import BaseAgent, BasePlugin, PluginMetadata, UvTool, plugin_settings, uvtool
from pydantic import BaseModel, Field

from .arithmetic import evaluate
from .units import convert

DEFAULT_DIGITS = 8


class CalculateArguments(BaseModel):
    expression: str = Field(
        description="The arithmetic to evaluate, for example (3 + 4) * 2 ** 5 or sqrt(2) / 3",
        min_length=1,
        max_length=500,
    )


class ConvertArguments(BaseModel):
    value: float = Field(description="How much of the first unit")
    from_unit: str = Field(description="The unit of the value, for example mile, kg or celsius", max_length=40)
    to_unit: str = Field(description="The unit wanted, for example km, pound or fahrenheit", max_length=40)


@plugin_settings(
    [
        {
            "key": "significant_digits",
            "name": "Significant digits",
            "type": "int",
            "description": "How many digits results are rounded to (1 to 15)",
            "default": DEFAULT_DIGITS,
        }
    ]
)
class EverydayPlugin(BasePlugin):
    """What Cadence asks about the plugin before anybody talks to it."""

    @staticmethod
    def get_metadata() -> PluginMetadata:
        return PluginMetadata(
            pid="dev.cadence.demo.everyday",
            name="Everyday arithmetic",
            version="1.0.0",
            description="Calculates expressions and converts units of length, mass, volume, temperature and time.",
            capabilities=["calculation", "unit_conversion"],
        )

    @staticmethod
    def create_agent() -> BaseAgent:
        return EverydayAgent()


class EverydayAgent(BaseAgent):
    """Offers the two tools; only the number of digits is configurable."""

    def __init__(self) -> None:
        self._digits = DEFAULT_DIGITS

    def initialize(self, config: dict[str, Any]) -> None:
        self._digits = min(max(int(config.get("significant_digits", DEFAULT_DIGITS)), 1), 15)

    def get_tools(self) -> list[UvTool]:
        @uvtool(args_schema=CalculateArguments, stream=True)
        def calculate(expression: str) -> str:
            """Calculate the exact value of an arithmetic expression."""
            return f"{expression} = {self._rounded(evaluate(expression))}"

        @uvtool(args_schema=ConvertArguments, stream=True)
        def convert_units(value: float, from_unit: str, to_unit: str) -> str:
            """Convert a measurement from one unit to another: length, mass, volume, temperature, speed, time, data."""
            source, target, converted = convert(value, from_unit, to_unit)
            return f"{self._rounded(value)} {source} = {self._rounded(converted)} {target}"

        return [calculate, convert_units]

    def _rounded(self, value: float) -> str:
        if isinstance(value, int) and abs(value) < 10**15:
            return str(value)
        return f"{value:.{self._digits}g}"
