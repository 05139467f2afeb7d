"""Our webhooks at the PBX: what we registered there and what is wanted; nothing here receives events."""
