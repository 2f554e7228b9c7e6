"""What `cadence up --demo` adds: a model that needs no key, an example plugin, and an organization that uses both."""
