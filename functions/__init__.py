"""Triggers: the only part of the app that knows Azure Functions."""
