"""Files that last: whole or not at all, hashed, and verified before they are used."""
