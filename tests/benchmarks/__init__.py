"""`just bench`: what a streamed token costs in the worker, beside a plain relay, on one core, in one interleaved run.

    python -m tests.benchmarks [streaming | plugins | engines] [--rounds 3] [--quick] [--json FILE]

Three processes besides the stack: a scripted model server and a load client on one core, the server under test alone on
another. Only numbers come out; nothing here passes or fails.

`just bench plugins` is `plugins.py` alone: what a tool call through a plugin host costs. `just bench engines` is
`engines.py`: what each combination of framework and mode costs, per token and per instance.

`just bench idle` is `idle_streams.py`: what thousands of streams cost on which nothing comes.

`just bench control-plane` is `control_plane.py`: how many requests a core of the control plane answers.
"""
