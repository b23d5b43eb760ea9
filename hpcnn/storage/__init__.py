"""Checkpoint files: written atomically, hashed, and verified before use."""
