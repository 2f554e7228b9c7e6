"""The control plane: how many requests one core of it answers, with everything on that a tenant's request meets: the
session, permissions, rate limits, row-level security and, for changes, the audit trail and the outbox.

    just bench control-plane [--rounds 3] [--quick] [--only read --only change --only create …] [--json FILE]

The whole stack runs with one worker. The control plane is alone on one core; stores, worker and load share the other,
and may be what holds it up: requests per second of its CPU time are told as well. On the same core, and asked in turns
with it, are bare handlers with the same drivers and none of all that: what there is to compare with on a machine that
is faster or slower than the one on which the limits were set.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import msgspec
from rich.console import Console
from rich.table import Table

from deploy.demo.api import CadenceAPI
from deploy.demo.package import demo_package
from deploy.stack.backing import owners_url
from shared.frameworks import Provider
from tests.benchmarks import processes
from tests.benchmarks.measure import percentile
from tests.benchmarks.report import machine
from tests.benchmarks.rest_load import Place, RestLoad, RestResult
from tests.benchmarks.servers import BareAPI
from tests.benchmarks.stack import BenchTenant, StartedStack, started

CLIENTS = 16
POINTS = 4
"""Central points of each organization: with as many clients, each changes one of its own."""

P99_MS = 25.0
READ_PER_SECOND, WRITE_PER_SECOND = 2_000, 1_200
_MODEL_URL = "http://127.0.0.1:9/v1"
"""Nobody is asked anything here."""

_MOST_PER_MINUTE = 1_000_000
"""What the tier is given: rates are counted for every request as always, and none is reached."""
_CREDENTIAL = {"name": "bench {number}", "provider": "openai", "api_key": "sk-bench-{number}"}
_PASSWORD = "a benchmark has no secrets"
_BARE = ("bare", "bare-create")
_LIMITS = {
    "bare": None,
    "bare-create": None,
    "read": READ_PER_SECOND,
    "change": WRITE_PER_SECOND,
    "create": WRITE_PER_SECOND,
}


class Plan(msgspec.Struct, frozen=True):
    """`requests` of each kind and round. Clients are spread over the organizations."""

    clients: int = CLIENTS
    organizations: int = 4
    requests: dict[str, int] = msgspec.field(
        default_factory=lambda: {"bare": 1_500, "bare-create": 500, "read": 1_500, "change": 500, "create": 500}
    )
    rounds: int = 3


QUICK = Plan(
    clients=4,
    organizations=2,
    requests={"bare": 40, "bare-create": 20, "read": 40, "change": 20, "create": 20},
    rounds=1,
)


class Sample(msgspec.Struct, frozen=True):
    """One round of one kind of request. `per_cpu_second`: how many the process answers for a second of its CPU time."""

    per_second: float
    cpu_ms: float
    per_cpu_second: float
    p50_ms: float
    p99_ms: float


class Row(msgspec.Struct, frozen=True):
    """Medians over the rounds; `limit` is the least number of requests per second and core, where there is one."""

    kind: str
    what: str
    limit: int | None
    median: Sample
    rounds: list[Sample]
    errors: dict[str, int]


class Report(msgspec.Struct, frozen=True):
    plan: Plan
    machine: str
    rows: list[Row]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks control-plane")
    parser.add_argument("--rounds", type=int, help="interleaved rounds, 3 when left out")
    parser.add_argument("--quick", action="store_true", help="a few requests only, to see that it runs")
    parser.add_argument("--only", action="append", choices=list(_LIMITS), help="this kind only; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything there")
    options = parser.parse_args(arguments)
    plan, console = QUICK if options.quick else Plan(), Console()
    plan = msgspec.structs.replace(plan, rounds=options.rounds or plan.rounds)
    report = measure(plan, options.only or list(_LIMITS), console)
    _show(report, console)
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)))


def measure(plan: Plan, kinds: Sequence[str], console: Console) -> Report:
    """Start everything, take all rounds, stop everything."""
    tested_core, other_core = processes.cores()
    os.sched_setaffinity(0, {other_core})
    with (
        tempfile.TemporaryDirectory(prefix="cadence-bench-") as home,
        started(Path(home), console) as stack,
        _bare(stack, Path(home)) as bare,
    ):
        control_plane, _ = stack.process("control-plane")
        pids = dict.fromkeys(kinds, control_plane) | dict.fromkeys(_BARE, bare.pid or 0)
        for pid in {*pids.values()}:
            processes.pin(pid, tested_core)
        loads = asyncio.run(_seeded(stack, plan)) | {kind: _bare_load(bare, plan, kind) for kind in _BARE}
        rounds: dict[str, list[Sample]] = {kind: [] for kind in kinds}
        errors: dict[str, dict[str, int]] = {kind: {} for kind in kinds}
        number = 0
        # The first round is for connections, caches and lazy imports.
        for turn in range(plan.rounds + 1):
            for kind in kinds:
                console.print(f"[dim]{f'round {turn} of {plan.rounds}' if turn else 'warming up'}: {kind}[/]")
                load = msgspec.structs.replace(loads[kind], first_number=number)
                if not turn:
                    load = msgspec.structs.replace(load, requests=max(plan.clients, load.requests // 4))
                before = processes.cpu_seconds(pids[kind])
                result = _sent(load)
                used_seconds = processes.cpu_seconds(pids[kind]) - before
                number += load.requests
                for why, count in result.errors.items():
                    errors[kind][why] = errors[kind].get(why, 0) + count
                if turn:
                    rounds[kind].append(_sample(result, used_seconds))
    rows = [
        Row(kind, _what(loads[kind]), _LIMITS[kind], _median(rounds[kind]), rounds[kind], errors[kind])
        for kind in kinds
    ]
    return Report(plan, machine(), rows)


def _sent(load: RestLoad) -> RestResult:
    command = [sys.executable, "-m", "tests.benchmarks.rest_load"]
    ended = subprocess.run(command, input=msgspec.json.encode(load), stdout=subprocess.PIPE, check=True)
    return msgspec.json.decode(ended.stdout, type=RestResult)


def _sample(result: RestResult, used_seconds: float) -> Sample:
    answered = max(result.answered, 1)
    return Sample(
        per_second=result.answered / result.seconds,
        cpu_ms=used_seconds * 1000 / answered,
        per_cpu_second=result.answered / used_seconds if used_seconds else 0.0,
        p50_ms=percentile(result.took_ms, 50),
        p99_ms=percentile(result.took_ms, 99),
    )


def _median(samples: Sequence[Sample]) -> Sample:
    numbers = {name: statistics.median(getattr(one, name) for one in samples) for name in Sample.__struct_fields__}
    return Sample(**numbers)


@contextmanager
def _bare(stack: StartedStack, home: Path) -> Iterator[BareAPI]:
    state = stack.directory.state()
    assert state is not None
    # The login that owns the tables: it makes some of its own beside them.
    bare = BareAPI(home, redis_url=state.backing["CADENCE_REDIS_URL"], postgres_url=owners_url(state.backing))
    bare.start()
    try:
        yield bare
    finally:
        bare.stop()


def _bare_load(bare: BareAPI, plan: Plan, kind: str) -> RestLoad:
    is_read = kind == "bare"
    return RestLoad(
        method="GET" if is_read else "POST",
        base_url=bare.url,
        places=[Place("/")],
        clients=plan.clients,
        requests=plan.requests[kind],
        status=200 if is_read else 201,
        body="" if is_read else msgspec.json.encode(_CREDENTIAL).decode(),
    )


class _Tenant(msgspec.Struct, frozen=True):
    """An organization as its own administrator uses it; paths begin with a slash."""

    org: str
    orchestrator: str
    points: list[str]
    headers: dict[str, str]


async def _seeded(stack: StartedStack, plan: Plan) -> dict[str, RestLoad]:
    async with aiohttp.ClientSession() as session:
        platform = CadenceAPI(stack.url, session)
        package = demo_package()
        tenants = [await _tenant(stack, session, platform, package, number) for number in range(plan.organizations)]
        rates = ("requests_per_minute", "request_burst", "member_requests_per_minute")
        most = dict.fromkeys(rates, _MOST_PER_MINUTE)
        await platform.call("PATCH", "/api/admin/tiers/enterprise", "raise the tier's rates", json=most)

    def load(kind: str, method: str, places: list[Place], status: int, body: dict[str, str] | None) -> RestLoad:
        return RestLoad(
            method=method,
            base_url=stack.url,
            places=places,
            clients=plan.clients,
            requests=plan.requests[kind],
            status=status,
            body=msgspec.json.encode(body).decode() if body else "",
        )

    # A body is the same for all clients, so each organization's orchestrator is named in none of them: a new member of
    # a list that needs no other is a credential, sealed as any.
    return {
        "read": load("read", "GET", [Place(t.orchestrator, t.headers) for t in tenants], 200, None),
        "change": load(
            "change",
            "PATCH",
            [Place(t.points[i], t.headers) for i in range(POINTS) for t in tenants],
            200,
            {"description": "Changed {number} times."},
        ),
        "create": load("create", "POST", [Place(f"{t.org}/llm-configs", t.headers) for t in tenants], 201, _CREDENTIAL),
    }


async def _tenant(
    stack: StartedStack, session: aiohttp.ClientSession, platform: CadenceAPI, package: bytes, number: int
) -> _Tenant:
    tenant = await BenchTenant.create(platform, stack.secrets, _MODEL_URL, package=package, provider=Provider.OPENAI)
    orchestrator = (await tenant.instance("bench", "bench-t5-d1")).path
    org, _, instance_id = orchestrator.rpartition("/orchestrators/")
    login = {"username": f"bench-{number}", "password": _PASSWORD}
    user = await platform.call("POST", "/api/admin/users", "create a user", json=login)
    place = {"user_id": user["user_id"], "is_admin": True}
    await platform.call("POST", f"{org}/members", "let the user join", json=place)
    # Not as the platform's administrator, whose requests are no organization's.
    member = CadenceAPI(stack.url, session)
    await member.login(**login)
    points = []
    for point in range(POINTS):
        body = {"name": f"bench {point}", "instance_id": instance_id}
        made = await member.call("POST", f"{org}/central-points", "make a central point", json=body)
        points.append(f"{org}/central-points/{made['central_id']}")
    return _Tenant(org, orchestrator, points, member.headers)


def _what(load: RestLoad) -> str:
    if load.places[0].path == "/":
        return f"{load.method} of a bare handler"
    names = load.places[0].path.split("/")[4:]
    return f"{load.method} …/{names[0]}" + ("/{id}" if len(names) > 1 else "")


def _show(report: Report, console: Console) -> None:
    plan = report.plan
    title = (
        f"{plan.clients} connections, {plan.organizations} organizations, medians of {plan.rounds} interleaved rounds"
    )
    table = Table(title=title, caption=report.machine)
    for column in ("request", "requests/s", "CPU ms each", "per CPU second", "at least", "p50 ms", "p99 ms", "at most"):
        table.add_column(column, justify="left" if column == "request" else "right")
    for row in report.rows:
        mid = row.median
        table.add_row(
            row.what, f"{mid.per_second:.0f}", f"{mid.cpu_ms:.2f}", f"{mid.per_cpu_second:.0f}", str(row.limit or ""),
            f"{mid.p50_ms:.1f}", f"{mid.p99_ms:.1f}", f"{P99_MS:.0f}" if row.limit else "",
        )  # fmt: skip
    console.print(table)
    for row in report.rows:
        for why, count in row.errors.items():
            console.print(f"{row.kind}: {count} × {why}", style="red", markup=False)
