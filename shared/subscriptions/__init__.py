"""Who wants which events, where and signed how; nothing here posts."""
