"""The arguments of a tool as a pydantic model: its `args_schema`, or else one made from the function's signature."""

import inspect
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, create_model

from cadence_sdk.types.sdk_tools import UvTool


def arguments_model(tool: UvTool) -> type[BaseModel]:
    """What the tool's arguments are checked against. Raises whatever building it from a bad annotation raises."""
    if tool.args_schema is not None:
        return tool.args_schema
    return _from_signature(tool)


def arguments_schema(tool: UvTool) -> dict[str, Any]:
    """The JSON schema of the tool's arguments, as a model is shown it."""
    return arguments_model(tool).model_json_schema()


def bound_arguments(tool: UvTool, model: type[BaseModel], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Checked keyword arguments for the tool's function: values of the annotated types, nested models as models.

    Raises pydantic.ValidationError.
    """
    checked = model.model_validate(dict(arguments))
    values = {name: getattr(checked, name) for name in type(checked).model_fields}
    values.update(checked.model_extra or {})
    parameters = inspect.signature(tool.func).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return values
    # A schema may leave out a parameter, or give one its own default; only what the function takes is passed on.
    return {name: value for name, value in values.items() if name in parameters}


def _from_signature(tool: UvTool) -> type[BaseModel]:
    hints = typing.get_type_hints(tool.func, include_extras=True)
    fields: dict[str, Any] = {}
    takes_more = False
    for name, parameter in inspect.signature(tool.func).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            takes_more = True
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints.get(name, Any), default)
    config = ConfigDict(extra="allow" if takes_more else "forbid", protected_namespaces=())
    model: type[BaseModel] = create_model(f"{tool.name}_arguments", __config__=config, **fields)
    return model
