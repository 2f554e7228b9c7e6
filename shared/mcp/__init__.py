"""MCP servers as plugins: what both planes need to reach one and to trust it with nothing.

`client` and `http` import the MCP library, which takes half a second: import them on first use, away from the loop.
"""
