"""Units by kind. A unit is a factor to its kind's base unit, except temperatures, which also have an offset."""

from typing import NamedTuple


class Unit(NamedTuple):
    """`amount * factor + offset` is the amount in the base unit of its kind."""

    symbol: str
    kind: str
    factor: float
    offset: float = 0.0


class UnitRefused(ValueError):
    """A unit that is not known, or two that measure different things; the message tells which are known."""


_UNITS: dict[str, dict[str, tuple[float, str]]] = {
    "length": {
        "m": (1, "metre meter"), "km": (1000, "kilometre kilometer"), "cm": (0.01, "centimetre centimeter"),
        "mm": (0.001, "millimetre millimeter"), "mi": (1609.344, "mile"), "yd": (0.9144, "yard"),
        "ft": (0.3048, "foot feet"), "in": (0.0254, "inch inches"), "nmi": (1852, "nauticalmile"),
    },
    "mass": {
        "kg": (1, "kilogram kilo"), "g": (0.001, "gram gramme"), "mg": (1e-6, "milligram"), "t": (1000, "tonne ton"),
        "lb": (0.45359237, "pound lbs"), "oz": (0.028349523125, "ounce"), "st": (6.35029318, "stone"),
    },
    "volume": {
        "l": (1, "litre liter"), "ml": (0.001, "millilitre milliliter"), "m³": (1000, "m3 cubicmetre cubicmeter"),
        "gal": (3.785411784, "gallon"), "qt": (0.946352946, "quart"), "pt": (0.473176473, "pint"),
        "cup": (0.2365882365, ""), "fl oz": (0.0295735295625, "floz fluidounce"),
    },
    "speed": {
        "m/s": (1, "metrespersecond meterspersecond"), "km/h": (1 / 3.6, "kmh kph kilometresperhour kilometersperhour"),
        "mph": (0.44704, "mi/h milesperhour"), "kn": (1852 / 3600, "knot"),
    },
    "time": {
        "s": (1, "second sec"), "min": (60, "minute"), "h": (3600, "hour hr"), "d": (86400, "day"),
        "wk": (604800, "week"), "yr": (31557600, "year"),
    },
    "data": {
        "B": (1, "byte"), "kB": (1e3, "kilobyte"), "MB": (1e6, "megabyte"), "GB": (1e9, "gigabyte"),
        "TB": (1e12, "terabyte"), "KiB": (2**10, "kibibyte"), "MiB": (2**20, "mebibyte"), "GiB": (2**30, "gibibyte"),
    },
}  # fmt: skip
_TEMPERATURES = {
    "°C": Unit("°C", "temperature", 1, 273.15),
    "°F": Unit("°F", "temperature", 5 / 9, 459.67 * 5 / 9),
    "K": Unit("K", "temperature", 1),
}
_TEMPERATURE_NAMES = {
    "°C": ("c", "celsius", "centigrade", "degc", "degreecelsius", "degreescelsius"),
    "°F": ("f", "fahrenheit", "degf", "degreefahrenheit", "degreesfahrenheit"),
    "K": ("kelvin",),
}


def _by_name() -> dict[str, Unit]:
    named: dict[str, Unit] = {}
    for kind, units in _UNITS.items():
        for symbol, (factor, names) in units.items():
            unit = Unit(symbol, kind, factor)
            for name in (symbol, symbol.replace(" ", ""), *names.split()):
                named[name] = unit
                named.setdefault(name + "s" if len(name) > 2 else name, unit)
    for symbol, unit in _TEMPERATURES.items():
        for name in (symbol, symbol.lower(), *_TEMPERATURE_NAMES[symbol]):
            named[name] = unit
    return named


_NAMED = _by_name()
_NAMED_LOWER = {name.lower(): unit for name, unit in reversed(_NAMED.items())}


def convert(value: float, from_unit: str, to_unit: str) -> tuple[str, str, float]:
    """The two units' symbols and the amount in the second. Raises UnitRefused."""
    source, target = _find(from_unit), _find(to_unit)
    if source.kind != target.kind:
        raise UnitRefused(
            f"“{from_unit}” measures {source.kind} and “{to_unit}” measures {target.kind}; they cannot be converted"
        )
    return source.symbol, target.symbol, (value * source.factor + source.offset - target.offset) / target.factor


def _find(name: str) -> Unit:
    # Case first as written, since it tells mB from MB, then without.
    plain = "".join(name.split()).rstrip(".").replace("_", "")
    unit = _NAMED.get(plain) or _NAMED_LOWER.get(plain.lower())
    if unit is None:
        kinds = "; ".join(f"{kind}: {', '.join(units)}" for kind, units in _UNITS.items())
        raise UnitRefused(f"the unit “{name}” is not known. Known are {kinds}; temperature: °C, °F, K")
    return unit
