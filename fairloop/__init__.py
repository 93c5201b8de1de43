"""Fairloop closes the loop on demographic bias in face recognition."""
