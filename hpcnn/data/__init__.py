"""The data of a job: readers of formats, rows read on demand, splits, scaling, targets, sampling order."""
