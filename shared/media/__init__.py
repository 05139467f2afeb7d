"""Recordings and voicemails, from the PBX into Blob Storage; nothing else downloads."""
