"""What model calls cost: prices per million tokens, in US dollars, as they were known when a run began."""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Protocol

import msgspec

from shared.frameworks import Provider

CURRENCY = "USD"
_MILLION = Decimal(1_000_000)


class ModelPrice(msgspec.Struct, frozen=True):
    """US dollars per million tokens of one model. `cached` None: what a cache holds costs what other input does."""

    provider: Provider
    model_name: str
    input: Decimal
    output: Decimal
    cached: Decimal | None = None

    def cost(self, input_tokens: int, output_tokens: int, cached_tokens: int) -> Decimal:
        """Exact, in US dollars. `cached_tokens` are among the input tokens."""
        cached = min(cached_tokens, input_tokens)
        price_of_cached = self.input if self.cached is None else self.cached
        parts = (input_tokens - cached) * self.input + cached * price_of_cached + output_tokens * self.output
        return parts / _MILLION


class CountedTokens(Protocol):
    @property
    def input_tokens(self) -> int: ...
    @property
    def output_tokens(self) -> int: ...
    @property
    def cached_tokens(self) -> int: ...


class PricedCall(Protocol):
    """A model call, whoever made it."""

    @property
    def provider(self) -> Provider: ...
    @property
    def model_name(self) -> str: ...
    @property
    def usage(self) -> CountedTokens: ...


PriceList = Mapping[tuple[Provider, str], ModelPrice]


def price_list(prices: Iterable[ModelPrice]) -> PriceList:
    return {(price.provider, price.model_name): price for price in prices}


def cost_of_call(call: PricedCall, prices: PriceList) -> Decimal | None:
    """None for a model without a price."""
    price = prices.get((call.provider, call.model_name))
    if price is None:
        return None
    usage = call.usage
    return price.cost(usage.input_tokens, usage.output_tokens, usage.cached_tokens)


def cost_of_calls(calls: Iterable[PricedCall], prices: PriceList) -> Decimal | None:
    """The sum, 0 for no calls; None as soon as one of them has no price: a part of the truth would look like all."""
    total = Decimal(0)
    for call in calls:
        cost = cost_of_call(call, prices)
        if cost is None:
            return None
        total += cost
    return total
