"""What callers under /api/v2 ask for: checked inputs, actions, lists, the feed, subscribing; nothing here polls."""
