from typing import Any

import pytest

from shared.errors import InvalidRequest
from shared.model_options import known_model_options, parse_model_options


def test_headers_and_body_are_what_was_allowed() -> None:
    options = parse_model_options({"organization": "org-1", "headers": {"X-Team": "a"}, "seed": 0, "max_retries": 5})
    assert options.http_headers() == {"X-Team": "a", "OpenAI-Organization": "org-1"}
    assert options.body() == {"seed": 0}


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        ({"headers": {"Authorization": "Bearer x"}}, "additional_config"),
        ({"headers": {"Cookie": "x"}}, "additional_config"),
        ({"headers": {"X-A": "a\r\nHost: b"}}, "additional_config.headers"),
        ({"organization": "a\nb"}, "additional_config.organization"),
        ({"organization": "a\n"}, "additional_config.organization"),
        ({"top_p": 2}, "additional_config.top_p"),
        ({"stream": False}, "additional_config"),
    ],
)
def test_anything_else_is_refused_by_name(raw: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_model_options(raw)
    assert caught.value.errors[0].field.startswith(field)


def test_stored_keys_that_mean_nothing_are_named_and_left_out() -> None:
    options, ignored = known_model_options({"seed": 3, "stream": False})
    assert (options.seed, ignored) == (3, ("stream",))
