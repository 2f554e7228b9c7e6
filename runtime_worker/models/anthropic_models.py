"""What Anthropic's models take, by name. A name that is not known here is taken for a new one: Anthropic has been
removing parameters since Claude Opus 4.7, and answers each of them with a 400."""

import re

_VERSION = re.compile(r"claude-(?:(?:opus|sonnet|haiku)-(?P<major>\d)(?:-(?P<minor>\d)(?!\d))?|(?P<old>[123])\b)")
_LAST_WITH_SAMPLING = (4, 6)
_FIRST_WITH_OUTPUT_FORMAT = {"opus": (4, 1), "sonnet": (4, 5), "haiku": (4, 5)}
_ALWAYS_THINKS = re.compile(r"claude-(?:fable|mythos|opus-5-[5-9])")


def takes_sampling(model_name: str) -> bool:
    """Whether `temperature` and `top_p` may be sent."""
    version = _version(model_name)
    return version is not None and version <= _LAST_WITH_SAMPLING


def has_output_format(model_name: str) -> bool:
    """Whether `output_config.format` is known; older models are asked with a tool that has to be called."""
    version = _version(model_name)
    family = next((name for name in _FIRST_WITH_OUTPUT_FORMAT if name in model_name), None)
    return version is None or (family is not None and version >= _FIRST_WITH_OUTPUT_FORMAT[family])


def may_be_made_to_call(model_name: str) -> bool:
    """Whether a tool call may be required. Models that cannot stop thinking refuse a request that does."""
    return _ALWAYS_THINKS.search(model_name) is None


def _version(model_name: str) -> tuple[int, int] | None:
    """(4, 5) of `claude-sonnet-4-5-20250929`, None where there is none to be read."""
    found = _VERSION.search(model_name)
    if found is None:
        return None
    if found["old"]:
        return int(found["old"]), 0
    return int(found["major"]), int(found["minor"] or 0)
