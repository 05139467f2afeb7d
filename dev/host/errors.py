"""Why the host cannot start."""


class HostError(Exception):
    """Something the person at the keyboard has to put right; the text is the one line they read."""
