"""Answers to callers under /api/v2: checked inputs, actions, lists, the feed, subscribing; nothing here polls."""
