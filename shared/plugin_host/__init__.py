"""The plugin host: the process that runs one plugin's code for a worker, and what the two say to each other.

The child imports this package with nothing but the standard library, msgspec and the SDK at hand: none of it may need
more.
"""
