"""What becomes of a run in which a node failed; the same in every mode."""

from runtime_worker.engines.modes.node import ERROR_HANDLER, ModeNode
from shared.errors import DomainError, Kind

FIXED_FAILURE_TEXT = "Sorry, something went wrong and I could not finish this. Please try again in a moment."
"""What an error handler writes that cannot reach a model either."""


def is_answered_in_words(failed: ModeNode, *, has_visible_text: bool) -> bool:
    """Whether a failed node leads to the error handler; otherwise the run itself fails.

    Once a part of an answer is on a user's screen, a second answer behind it would read as if it belonged to the first.
    Then the run ends with the error, and what was written stays as it is. An error handler that fails without having
    written anything is replaced by `FIXED_FAILURE_TEXT` and is not a failure.
    """
    return not has_visible_text and failed.value != ERROR_HANDLER


def describe_failure(error: DomainError) -> str:
    """What an error handler's model is told: enough for an honest sentence, nothing of how we are built."""
    match error.kind:
        case Kind.TIMEOUT:
            return "Working on the request took too long."
        case Kind.LIMITED:
            return "There are too many requests right now."
        case _ if error.retryable:
            return "Something that is needed for an answer is not available right now."
        case _:
            return (
                "Something that is needed for an answer does not work at the moment; trying again will not help soon."
            )
