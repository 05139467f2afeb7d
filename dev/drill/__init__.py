"""Drills: run the whole app in real processes while storage, the PBX or the app itself is down."""
