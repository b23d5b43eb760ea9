"""The job file: its types, how it is read and checked, and the reference of its settings."""

from hpcnn.job.dump import differing_settings, resolved_toml, result_settings
from hpcnn.job.load import LoadedJob, load_job

__all__ = ["LoadedJob", "differing_settings", "load_job", "resolved_toml", "result_settings"]
