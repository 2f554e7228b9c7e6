"""The parts of the engines' conformance suite; the suite itself is `tests/contract/engine_suite.py`.

A scenario (`scenario.py`) is data: what the scripted model answers (`moves.py`), and what a client is then told
(`story.py`). It names nodes of a mode and nothing of a framework. Scenarios that hold in every mode are written over a
`Walk` (`walk.py`), which knows how a mode gets from a question to its answer. `playing.py` runs one on a framework,
`differences.py` lists what frameworks are allowed to do otherwise.
"""
