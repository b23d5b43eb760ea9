"""Checks of what is installed: versions, Keras, PyTorch, Horovod, and the graphics processors they may use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from hpcnn.tools.doctor.checks.cores import by_host
from hpcnn.tools.doctor.evidence import Evidence
from hpcnn.tools.doctor.finding import Finding, ok, problem, warning

_OLDEST_TORCH = (2, 4)
_TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tf-nightly")


def check_versions(evidence: Evidence) -> Iterator[Finding]:
    """All ranks run the same Python, NumPy and hpcnn."""
    kinds = {(rank.python, rank.numpy, rank.hpcnn): rank for rank in reversed(evidence.ranks)}
    each = [
        f"Python {python}, NumPy {numpy}, hpcnn {hpcnn}" + (f" on {rank.host}" if len(kinds) > 1 else "")
        for (python, numpy, hpcnn), rank in kinds.items()
    ]
    if len(kinds) > 1:
        first = evidence.ranks[0].executable
        yield problem(
            "versions",
            f"ranks run different ones: {'; '.join(each)}",
            f"mpirun -n {len(evidence.ranks)} {first} -m hpcnn.doctor   # one Python, by its full path",
        )
    else:
        yield ok("versions", each[0])


def check_keras(evidence: Evidence) -> Iterator[Finding]:
    """Jobs with backend = "keras" can run."""
    name, versions = "Keras", evidence.packages.versions
    tensorflows = [package for package in _TENSORFLOWS if package in versions]
    keras = versions.get("keras", "")
    if len(tensorflows) > 1:
        yield problem(
            name,
            f"this environment has {' and '.join(tensorflows)}, which overwrite each other's files",
            f"pip uninstall -y {' '.join(tensorflows)} && pip install {tensorflows[0]}",
        )
    elif keras and int(keras.split(".")[0]) < 3:
        yield problem(name, f"Keras {keras} is older than 3, which hpcnn needs", "pip install 'keras>=3'")
    elif not tensorflows or not keras:
        yield ok(name, "not installed; jobs with backend = 'numpy' need none (pip install 'hpcnn[keras]' brings it)")
    else:
        yield ok(name, f"Keras {keras} on {tensorflows[0]} {versions[tensorflows[0]]}")


def check_torch(evidence: Evidence) -> Iterator[Finding]:
    """Jobs with backend = "torch" can run."""
    name, version = "PyTorch", evidence.packages.versions.get("torch", "")
    if not version:
        yield ok(name, "not installed; jobs with backend = 'numpy' need none (pip install 'hpcnn[torch]' brings it)")
    elif tuple(map(int, version.split(".")[:2])) < _OLDEST_TORCH:
        yield problem(name, f"PyTorch {version} is older than 2.4, which hpcnn needs", "pip install 'torch>=2.4'")
    else:
        yield ok(name, version + ", which computes on the CPU alone" * version.endswith("+cpu"))


def check_horovod(evidence: Evidence) -> Iterator[Finding]:
    """Horovod was built for the TensorFlow and the MPI that are here."""
    horovod, name, fix = evidence.packages.horovod, "Horovod", "python -m hpcnn.horovod build --rebuild"
    if horovod is None:
        if any(package in evidence.packages.versions for package in _TENSORFLOWS):
            yield ok(name, "not installed, and not needed: hpcnn.keras has its functions")
        return
    here = next((evidence.packages.versions[one] for one in _TENSORFLOWS if one in evidence.packages.versions), "")
    if horovod.tensorflow and horovod.tensorflow != here:
        yield problem(
            name, f"{horovod.version} was built for TensorFlow {horovod.tensorflow}, and this is {here or 'none'}", fix
        )
    elif not horovod.mpi:
        yield warning(
            name,
            f"{horovod.version} is not linked with an MPI, as far as can be seen: it joins ranks that horovodrun "
            "starts, and with mpirun each of them would be alone",
            f"horovodrun --gloo -np {max(evidence.launch.size, 2)} python SCRIPT   # or, for mpirun: {fix}",
        )
    elif evidence.mpi and horovod.mpi != evidence.mpi:
        linked = f"{horovod.version} is linked with {horovod.mpi}"
        yield problem(name, f"{linked}, but mpi4py uses {evidence.mpi}: its ranks would be alone", fix)
    else:
        tensorflow = f"TensorFlow {horovod.tensorflow} and " if horovod.tensorflow else ""
        yield ok(name, f"{horovod.version}, built for {tensorflow}{horovod.mpi}")


def check_gpus(evidence: Evidence) -> Iterator[Finding]:
    """Each rank has a graphics processor for itself, where there are any."""
    name, hosts = "GPUs", by_host(evidence)
    for node in evidence.nodes:
        gpus, ranks = node.gpus, hosts.get(node.host, [])
        chosen = Counter(rank.cuda_visible for rank in ranks if rank.cuda_visible and "," not in rank.cuda_visible)
        same = next((one for one, count in chosen.items() if count > 1), None)
        if gpus.trouble:
            yield warning(name, f"nvidia-smi fails on {node.host}: {gpus.trouble}", "nvidia-smi   # the driver")
        elif same is not None and len(gpus.names) > 1:
            yield warning(
                name,
                f"{chosen[same]} ranks on {node.host} see one of {len(gpus.names)} GPUs: CUDA_VISIBLE_DEVICES={same}",
                "unset CUDA_VISIBLE_DEVICES   # each rank takes the one of its number on the node",
            )
        elif len(ranks) > len(gpus.names) > 0:
            yield warning(
                name,
                f"{len(ranks)} ranks on {node.host} share {len(gpus.names)}; that matters to Keras and PyTorch mode",
                f"mpirun -n {len(gpus.names)} python -m hpcnn.train JOB   # one rank a GPU",
            )
        elif gpus.names and "tensorflow-cpu" in evidence.packages.versions:
            yield warning(
                name,
                f"{node.host} has {len(gpus.names)}, but this TensorFlow is tensorflow-cpu",
                "pip uninstall -y tensorflow-cpu && pip install 'tensorflow[and-cuda]'",
            )
        elif gpus.names and (torch := evidence.packages.versions.get("torch", "")).endswith("+cpu"):
            yield warning(
                name,
                f"{node.host} has {len(gpus.names)}, but PyTorch {torch} is for the CPU: torch.device = 'cuda' fails",
                "pip install --force-reinstall torch   # the build for CUDA",
            )
        else:
            continue
        return
    names = Counter(name for node in evidence.nodes for name in node.gpus.names)
    yield ok(name, ", ".join(f"{count} {kind}" for kind, count in names.items()) or "none; none is needed")
