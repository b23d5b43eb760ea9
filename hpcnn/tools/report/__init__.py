"""What a run came to, for people: one HTML page, a picture, or text for a terminal."""
