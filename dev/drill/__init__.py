"""Drills: the whole app with real processes while storage or the PBX is gone."""
