"""Where somebody is logged in. Sessions live in Redis (`shared.security.sessions`), so there are no rows here."""
