"""The run of a job: where it starts and resumes, its folder, lease, checkpoints, logs, display and watchdog."""
