"""How much of what flows is used."""

from datetime import datetime
from uuid import UUID

from redis.asyncio import Redis

from shared.limits import Used, keys
from shared.limits.seeds import Seeds


async def used_by(redis: "Redis", org_id: UUID, now: datetime, seeds: Seeds | None = None) -> Used:
    """What the organization has used this day and month, and how many runs are going on. Without `seeds` that is what
    Redis knows."""
    if seeds is not None and not await redis.hexists(keys.spent(org_id, now), "seeded"):
        await seeds.sow(org_id, now)
    fields = ["messages:" + f"{now:%d}", "messages", "tokens:" + f"{now:%d}", "tokens", "micros"]
    async with redis.pipeline(transaction=False) as pipe:
        pipe.hmget(keys.spent(org_id, now), fields)
        # Those whose worker vouches for them no longer are not running.
        pipe.zcount(keys.runs(org_id), f"({round(now.timestamp() * 1000)}", "+inf")
        spent, running = await pipe.execute()
    messages_today, messages, tokens_today, tokens, money = (int(value or 0) for value in spent)
    return Used(messages_today, messages, tokens_today, tokens, money, running)
