"""From a queue to the event's effects: processing, the queues' consumers, and putting dead letters back."""
