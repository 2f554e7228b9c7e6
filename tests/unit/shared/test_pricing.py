from decimal import Decimal

import msgspec

from shared.frameworks import Provider
from shared.pricing import ModelPrice, PricedCall, cost_of_call, cost_of_calls, price_list


class Tokens(msgspec.Struct, frozen=True):
    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0


class Call(msgspec.Struct, frozen=True):
    model_name: str
    usage: Tokens
    provider: Provider = Provider.OPENAI


SMALL = ModelPrice(Provider.OPENAI, "small", Decimal("0.15"), Decimal("0.60"), Decimal("0.075"))
LARGE = ModelPrice(Provider.OPENAI, "large", Decimal("2.5"), Decimal(10))
PRICES = price_list([SMALL, LARGE])


def test_cached_tokens_are_among_the_input_tokens_and_cost_what_their_price_says() -> None:
    assert cost_of_call(Call("small", Tokens(1_000_000, 0, 400_000)), PRICES) == Decimal("0.12")
    assert cost_of_call(Call("small", Tokens(0, 1_000_000)), PRICES) == Decimal("0.60")


def test_without_a_price_of_their_own_cached_tokens_cost_what_other_input_does() -> None:
    assert cost_of_call(Call("large", Tokens(1_000, 100, 900)), PRICES) == Decimal("0.0035")


def test_a_single_token_of_the_cheapest_model_costs_exactly_what_it_costs() -> None:
    assert cost_of_call(Call("small", Tokens(1, 1, 1)), PRICES) == Decimal("0.000000675")


def test_a_run_costs_the_sum_of_its_calls_and_nothing_when_it_made_none() -> None:
    calls: list[PricedCall] = [Call("small", Tokens(1_000, 500)), Call("large", Tokens(2_000, 100))]
    assert cost_of_calls(calls, PRICES) == Decimal("0.00045") + Decimal("0.006")
    assert cost_of_calls([], PRICES) == 0


def test_a_run_with_a_call_of_unknown_price_costs_nobody_knows_what() -> None:
    calls: list[PricedCall] = [Call("small", Tokens(1, 1)), Call("home made", Tokens(1, 1))]
    assert cost_of_calls(calls, PRICES) is None
    assert cost_of_call(Call("small", Tokens(1, 1), Provider.AZURE), PRICES) is None
