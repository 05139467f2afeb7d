"""Calls: their stories, the callers whom nobody answered, and the calls that are dialled."""
