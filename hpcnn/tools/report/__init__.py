"""`hpcnn report`: the results of runs as one HTML page, a picture, or text for a terminal."""
