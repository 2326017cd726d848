"""Claude Code, driven over its stream-json mode through a mailbox."""
