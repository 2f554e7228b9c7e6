"""The example plugin, as an author would lay it out: `plugin.py` and the modules it needs."""
