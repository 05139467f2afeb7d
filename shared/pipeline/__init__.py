"""From a queue to an event's effects: the queues' consumers, processing, and replays."""
