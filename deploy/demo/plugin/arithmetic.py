"""Arithmetic without `eval`: the expression is parsed and only what is listed here is computed."""

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

MAX_NODES = 200
MAX_POWER_BITS = 4096
"""How large the result of a power may get: `9**9**9` would keep a core busy for hours."""
MAX_RESULT_BITS = 1000
"""What still fits a float, in which large results are written."""

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs, "round": round, "min": min, "max": max, "sqrt": math.sqrt, "exp": math.exp, "log": math.log,
    "ln": math.log, "log10": math.log10, "log2": math.log2, "sin": math.sin, "cos": math.cos, "tan": math.tan,
    "floor": math.floor, "ceil": math.ceil,
}  # fmt: skip
_CONSTANTS = {"pi": math.pi, "e": math.e}


class ExpressionRefused(ValueError):
    """The expression is not arithmetic that this calculator knows; the message tells what is wrong."""


def evaluate(expression: str) -> int | float:
    """The value of an expression in Python notation; `^` is read as a power. Raises ExpressionRefused."""
    try:
        tree = ast.parse(expression.replace("^", "**").strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ExpressionRefused(f"“{expression}” is not an arithmetic expression, such as (3 + 4) * 2") from None
    if sum(1 for _ in ast.walk(tree)) > MAX_NODES:
        raise ExpressionRefused("the expression is too long")
    try:
        value = _value(tree.body)
    except ZeroDivisionError:
        raise ExpressionRefused("division by zero has no result") from None
    except OverflowError:
        raise ExpressionRefused("the result is too large") from None
    except (TypeError, ValueError) as error:
        if isinstance(error, ExpressionRefused):
            raise
        raise ExpressionRefused(f"this cannot be computed: {error}") from None
    if isinstance(value, int) and value.bit_length() > MAX_RESULT_BITS:
        raise ExpressionRefused("the result is too large")
    if isinstance(value, complex) or (isinstance(value, float) and not math.isfinite(value)):
        raise ExpressionRefused("the result is not a real number")
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 10**15 else value


def _value(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left), _value(right))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_value(left), _value(right))
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_value(argument) for argument in arguments))
        case ast.Name(id=name) | ast.Call(func=ast.Name(id=name)):
            known = ", ".join([*_FUNCTIONS, *_CONSTANTS])
            raise ExpressionRefused(f"“{name}” is not known here; known are {known}")
        case _:
            raise ExpressionRefused(f"“{ast.unparse(node)}” is not arithmetic")


def _power(base: float, exponent: float) -> Any:
    if abs(base) > 1 and abs(exponent) * math.log2(abs(base)) > MAX_POWER_BITS:
        raise ExpressionRefused("the result is too large")
    return base**exponent
