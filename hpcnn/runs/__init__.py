"""Running a job: its run folder, checkpoints, logs, display, watchdog, and the use of the trained model."""
