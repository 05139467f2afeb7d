"""Subscriptions: their events, addresses, filters and secrets; nothing here posts."""
