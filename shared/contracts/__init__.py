"""The committed JSON schemas of what travels between the planes. A change of them is a decision, not an accident."""
