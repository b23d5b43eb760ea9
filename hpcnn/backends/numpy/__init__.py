"""NumPy mode: layers of `hpcnn.nn`, trained by their own backward passes."""
