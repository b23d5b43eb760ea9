"""The job file: schema, reading, checks, and the reference of all settings."""

from hpcnn.job.dump import differing_settings, resolved_toml, result_settings
from hpcnn.job.load import LoadedJob, load_job

__all__ = ["LoadedJob", "differing_settings", "load_job", "resolved_toml", "result_settings"]
