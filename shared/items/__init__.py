"""Table `resources`: what was polled, newest first and in the order of arrival; no PBX is asked here."""
