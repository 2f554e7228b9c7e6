import pytest

from runtime_worker.models.anthropic_models import has_output_format, may_be_made_to_call, takes_sampling


@pytest.mark.parametrize(
    ("model", "sampling", "output_format", "can_be_made_to_call"),
    [
        ("claude-3-5-sonnet-20241022", True, False, True),
        ("claude-3-haiku-20240307", True, False, True),
        ("claude-sonnet-4-20250514", True, False, True),
        ("claude-opus-4-1-20250805", True, True, True),
        ("claude-haiku-4-5-20251001", True, True, True),
        ("claude-opus-4-6", True, True, True),
        ("claude-opus-4-7", False, True, True),
        ("claude-sonnet-5", False, True, True),
        ("claude-opus-5", False, True, True),
        ("claude-opus-5-5", False, True, False),
        ("claude-mythos-preview", False, True, False),
        ("claude-fable-5-1", False, True, False),
        ("anthropic/claude-sonnet-4-5", True, True, True),
        ("something-else-entirely", False, True, True),
    ],
)
def test_a_model_is_known_by_its_name(
    model: str, sampling: bool, output_format: bool, can_be_made_to_call: bool
) -> None:
    assert takes_sampling(model) is sampling
    assert has_output_format(model) is output_format
    assert may_be_made_to_call(model) is can_be_made_to_call
