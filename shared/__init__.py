"""What both planes import: wire structs, errors, ids, settings, sessions, sealing and package stores."""
