"""Keeps history for as long as is wanted, hands over or drops a month, and exports and erases a person."""
