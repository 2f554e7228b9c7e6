# Thin recipes over the `cadence` command and the tools of the project. `just` alone prints this menu.
# Quietly, since uv reports on the environment every time, and whoever came by `uv run just` has seen it.

set shell := ["bash", "-euo", "pipefail", "-c"]
set positional-arguments

[private]
menu:
    @{{ just_executable() }} --list --unsorted --list-heading $'Cadence\n' --list-prefix '  '

# Start everything on this machine (options: --workers N --demo --data-dir D --port P)
[group('run')]
[no-exit-message]
up *options:
    @uv run -q cadence up "$@"

# Stop it; the data stays
[group('run')]
[no-exit-message]
down *options:
    @uv run -q cadence down "$@"

# Bring the database to the newest schema (options: --down N)
[group('run')]
[no-exit-message]
migrate *options:
    @uv run -q cadence migrate "$@"

# Create the first system administrator (options: --username --email --password --add-sys-admin)
[group('run')]
[no-exit-message]
bootstrap *options:
    @uv run -q cadence bootstrap "$@"

# What the control plane and every worker say of what they need
[group('look')]
[no-exit-message]
health *options:
    @uv run -q cadence health "$@"

# What every live worker holds
[group('look')]
[no-exit-message]
stats *options:
    @uv run -q cadence stats "$@"

# Open psql on the running stack (arguments go to psql)
[group('look')]
[no-exit-message]
psql *arguments:
    @uv run -q cadence psql "$@"

# Open a prompt on MongoDB
[group('look')]
[no-exit-message]
mongo *arguments:
    @uv run -q cadence mongo "$@"

# Open a prompt on Redis, or run one command
[group('look')]
[no-exit-message]
redis *arguments:
    @uv run -q cadence redis "$@"

# Print the OpenAPI document of the control plane
[group('look')]
[no-exit-message]
openapi:
    @uv run -q cadence openapi

# What is imported is compiled once for all processes of a run, also where the environment says to keep no bytecode.

# One process more than the two cores they are meant for: a third of their time is waiting for what they started.

# Run the tests, all of them or those named (options: pytest's)
[group('develop')]
test *arguments:
    @env -u PYTHONDONTWRITEBYTECODE uv run -q pytest -n 3 --dist loadgroup "$@"

# Check style, types and who imports whom
[group('develop')]
lint:
    uv run -q ruff check
    uv run -q ruff format --check
    uv run -q zuban check
    uv run -q lint-imports

# Everything that must pass before a commit
[group('develop')]
check: lint test

# Ask every route as every kind of caller, time refusals, look for planted secrets everywhere, and print what came of it
[group('develop')]
isolation:
    @uv run -q pytest -q --matrix -k "isolation_matrix or isolation_timing or canaries" tests/integration/control_plane tests/integration/runtime_worker tests/e2e/test_canaries.py

# Measure: `streaming` against a plain relay, `plugins` in their hosts, `engines`, the `fleet`, `idle` streams, the `control-plane` (options: see --help)
[group('develop')]
bench *options:
    @eval "$(uv run -q python -m deploy.stack.interpreter)"; uv run -q python -m tests.benchmarks "$@"

# Kill, pause and cut off what runs while people talk, then ask for every run (options: --runs --seconds --workers --seed)
[group('develop')]
[no-exit-message]
chaos *options:
    @uv run -q python -m tests.chaos "$@"
