"""What is found out about a package before it is in a catalogue: every check of an upload that needs no database.

Used by the control plane, which stores what passes, and by authors on their own machine.
"""
