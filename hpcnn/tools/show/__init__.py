"""Shows a network before it is trained: its layers as a table and as a drawing, and the memory that it needs."""
