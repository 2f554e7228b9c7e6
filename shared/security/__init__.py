"""Who is calling and what they may do: tokens, sessions, permissions and the cache of grants. Used by both planes."""
