"""Events on their way to subscribers; who subscribes is known to the room of subscriptions."""
