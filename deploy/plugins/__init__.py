"""What a plugin author does from the terminal: a new plugin, its checks, a chat with it, its package, its upload."""
