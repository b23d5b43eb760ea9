"""Shows what a job will see of its data, and what looks wrong in them, before anything is trained."""
