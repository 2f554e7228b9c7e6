"""Who changed what, from where, and what they were refused: one chain of entries for each organization, one for the
platform (decision 0030).
"""
