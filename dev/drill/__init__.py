"""Drills: the whole app with real processes while parts of what it stands on are gone."""
