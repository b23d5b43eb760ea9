"""NumPy mode: layers of , trained by their own backward passes."""
