"""Deliveries of events to subscribers, each with an outbox."""
