"""Explains Slurm's error messages and reasons for waiting, with remedies."""

from __future__ import annotations

import re

from hpcnn.errors import HpcnnError, shortened


class SlurmError(HpcnnError, RuntimeError):
    """Slurm reports an error, does not answer, or is not available."""


_NO_CLUSTER = r"configuration (file|source)|cluster ?name needs|dns srv|cannot stat file"

_ERRORS = (
    (
        r"invalid partition",
        "There is no such partition. `sinfo -s` lists those of this cluster; choose one by --partition.",
    ),
    (
        r"invalid account",
        "You can't use this account, or not in this partition. `sacctmgr show associations user=$USER` lists yours; "
        "choose one by --account.",
    ),
    (r"invalid qos", "You can't use this QOS. `sacctmgr show associations user=$USER format=qos` lists yours."),
    (
        r"time limit is invalid",
        "The time is missing, or longer than the partition allows. `sinfo -o '%P %l'` shows the limits; choose a "
        "shorter --time: the job saves, is requeued and resumes until it is done.",
    ),
    (r"invalid --time", "Give --time as MINUTES, HOURS:MINUTES:SECONDS or DAYS-HOURS."),
    (
        r"violates accounting/qos policy|maximum \w+ (limit|count)|limit.*exceeded",
        "A limit of your account or QOS is passed: too many jobs, nodes or CPUs, or too long a --time. "
        "`sacctmgr show associations user=$USER` shows the limits.",
    ),
    (
        r"generic resource|\(gres\)",
        "The partition has no such --gres. `sinfo -o '%P %G'` shows what there is, as gpu:2.",
    ),
    (
        r"node configuration is not available|more processors requested|node count specification|"
        r"maximum node count \d+ is less|memory specification",
        "No nodes are like that: too many --nodes, --tasks-per-node times --cpus-per-task above the CPUs of a node, "
        "more --gres than a node has, or too much memory. `sinfo -o '%P %D %c %m %G'` shows nodes, CPUs, MB and gres.",
    ),
    (r"partition configuration not available", "The partition is down, or too small for this. Ask `sinfo -s`."),
    (r"invalid feature", "No node has such a feature. `sinfo -o '%P %f'` lists them."),
    (r"invalid node name", "There is no such node. `sinfo -N` lists them."),
    (r"reservation", "There is no such reservation, or not for you. `scontrol show reservation` lists them."),
    (
        r"invalid job array",
        "Give --array as 0-5, 1,3,5 or 0-5%2 (two at once). `scontrol show config | grep MaxArray` tells the limit.",
    ),
    (r"dependency", "The job that --after names is unknown, or was removed after its end."),
    (r"group not permitted|access/permission denied", "You have no right to this. Is it your job, and your partition?"),
    (r"invalid job id", "There is no such job in the queue: it has ended, or its number is another one."),
    (r"already completing or completed", "The job has ended already."),
    (r"dos line breaks", "The template has line ends of Windows. Turn it around with: sed -i 's/\\r$//' FILE"),
    (r"does not look like a batch script", "The template must begin with #!/bin/bash."),
    (
        r"unable to contact slurm controller|connection refused|socket timed out|zero bytes|connect failure|"
        r"temporarily unable",
        "Slurm's controller does not answer: it is down or busy. Check it with `scontrol ping`. Running jobs continue; "
        "try again later.",
    ),
    (
        _NO_CLUSTER,
        "Slurm's programs are here, but this machine belongs to no cluster. Use a login node, or set SLURM_CONF.",
    ),
    (r"munge|authentication", "This machine is not trusted by the cluster: munge, which signs requests, does not run."),
    (r"accounting storage is disabled", "This cluster keeps no records of past jobs."),
)
"""Patterns in messages, regardless of case, and their explanations. The first match counts."""

_REASONS = {
    "Priority": "others are before it",
    "Resources": "next in line: waits for free nodes",
    "None": "about to be looked at",
    "Dependency": "waits for the job that it comes after",
    "DependencyNeverSatisfied": "the job that it comes after has failed: it will never start; cancel it",
    "BeginTime": "held back for a while, as after a requeue",
    "JobHeldUser": "held by you; `scontrol release` lets it go",
    "JobHeldAdmin": "held by an administrator",
    "JobArrayTaskLimit": "as many elements run at once as were asked for",
    "PartitionDown": "the partition is down",
    "PartitionInactive": "the partition takes jobs, but starts none",
    "PartitionTimeLimit": "longer than the partition allows: it will not start; choose a shorter --time",
    "PartitionNodeLimit": "more nodes than the partition has up, or allows",
    "ReqNodeNotAvail": "a node that it needs is down, drained or reserved",
    "Reservation": "waits for its reservation",
    "Licenses": "waits for a license",
    "QOSMaxJobsPerUserLimit": "you run as many jobs as your QOS allows",
    "AssocGrpCpuLimit": "your account uses as many CPUs as it may",
    "AssocMaxJobsLimit": "your account runs as many jobs as it may",
    "launch failed requeued held": "its start failed; `scontrol release` lets it try again",
    "NodeDown": "a node of it went down",
    "Cleaning": "its last attempt is still being cleaned up",
}


def explain_error(said: str) -> str:
    """Return a message of Slurm on one line with an explanation.

    >>> explain_error("sbatch: error: invalid partition specified: nope").split(". ")[0]
    'invalid partition specified: nope'
    """
    lines = [re.sub(r"^\w+: (error|fatal): |^allocation failure: ", "", line).strip() for line in said.splitlines()]
    text = shortened("; ".join(dict.fromkeys(line for line in lines if line))) or "it does not say why"
    meaning = next((words for pattern, words in _ERRORS if re.search(pattern, said, re.IGNORECASE)), "")
    return f"{text.rstrip('.')}.{' ' if meaning else ''}{meaning}"


def means_no_cluster(said: str) -> bool:
    """Return whether a message means that this machine has Slurm's programs but belongs to no cluster."""
    return re.search(_NO_CLUSTER, said, re.IGNORECASE) is not None


def reason_in_words(reason: str) -> str:
    """Explain Slurm's reason why a job waits.

    >>> reason_in_words("Priority")
    'others are before it (Priority)'
    """
    reason = reason.strip("()")
    known = _REASONS.get(reason) or _REASONS.get(reason.split(",")[0])
    if known is None and reason.startswith(("QOS", "Assoc")):
        known = "a limit of your account or QOS is reached"
    return f"{known} ({reason})" if known and reason != "None" else known or reason
