"""What a run that has ended used, as it goes to whoever counts it."""

from collections.abc import Iterable
from uuid import UUID

from runtime_worker.conversations.base import RunRecord, TokenUsage
from runtime_worker.engines.base import ModelCall
from runtime_worker.turn.run import Run
from shared.pricing import PriceList, cost_of_call, price_list
from shared.usage import CallUsage, EndedAs, RunFinished, encode_run


def usage_entry(org_id: UUID, record: RunRecord, calls: Iterable[CallUsage]) -> bytes:
    """The entry of a run that has ended."""
    return _entry(org_id, record, calls, _ended_as(record), record.epoch)


def entry_of_lost(org_id: UUID, record: RunRecord) -> bytes:
    """The entry of a run that ends with the worker it had before the one of `record`.

    Its call is in the place of that worker's first: if that one has told of its calls itself, this one is not counted.
    """
    return _entry(org_id, record, unknown_call(record), _ended_as(record), record.epoch - 1)


def entry_of_handed_over(run: Run) -> bytes:
    """The entry of a run that goes on at another worker."""
    record = run.record()
    return _entry(run.org_id, record, calls_of(run), "handed_over", record.epoch)


def _ended_as(record: RunRecord) -> EndedAs:
    status = record.status
    return status if status == "completed" or status == "cancelled" else "failed"


def _entry(org_id: UUID, record: RunRecord, calls: Iterable[CallUsage], status: EndedAs, epoch: int) -> bytes:
    return encode_run(
        RunFinished(
            run_id=record.run_id,
            org_id=org_id,
            instance_id=record.instance_id,
            user_id=record.user_id,
            api_key_id=record.api_key_id,
            status=status,
            ended_at=record.ended_at or record.started_at,
            calls=tuple(calls),
            epoch=epoch,
        )
    )


def calls_of(run: Run) -> list[CallUsage]:
    """Its model calls with their prices; what was used without any call that we know of, as one."""
    prices = price_list(run.prices)
    return [_priced(call, prices) for call in run.calls] or unknown_call(run.record())


def unknown_call(record: RunRecord) -> list[CallUsage]:
    """Of a run whose calls nobody can tell any more: one by no model that is known, with all that it used."""
    usage = record.usage or TokenUsage()
    if not (usage.input_tokens or usage.output_tokens):
        return []
    at = record.ended_at or record.started_at
    return [CallUsage("", "", "", usage.input_tokens, usage.output_tokens, at, usage.cached_tokens, usage.is_estimated)]


def _priced(call: ModelCall, prices: PriceList) -> CallUsage:
    price, usage = prices.get((call.provider, call.model_name)), call.usage
    return CallUsage(
        provider=call.provider,
        model_name=call.model_name,
        node=call.node,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        at=call.at,
        cached_tokens=usage.cached_tokens,
        is_estimated=usage.is_estimated,
        duration_ms=call.duration_ms,
        input_price=price.input if price else None,
        output_price=price.output if price else None,
        cached_price=price.cached if price else None,
        cost=cost_of_call(call, prices),
    )
