"""`DistributedDataParallel` of a module on a GPU, against the same on the CPU."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

import hpcnn.torch as hvd
from tests.mpi.checks import run_checks
from tests.torch.scripts.training import data, expected, make_net, own_samples


def check_gradients_of_a_module_on_a_gpu() -> None:
    place = torch.device("cuda", hvd.local_rank() % torch.cuda.device_count())
    x, y = (each[own_samples()].to(place) for each in data())
    for bucket in (0, 0.001):
        net = make_net(200)
        wanted = expected(net)
        parallel = hvd.DistributedDataParallel(net.to(place), bucket_cap_mb=bucket)
        assert parallel._reducer._vectors[0]._copy is not None
        for step in range(3):
            parallel.zero_grad(set_to_none=step > 1)
            cross_entropy(parallel(x), y).backward()
            for parameter, known in zip(net.parameters(), wanted, strict=True):
                assert parameter.grad.device == place
                assert torch.allclose(parameter.grad.cpu(), known, rtol=0, atol=1e-12)


if __name__ == "__main__":
    hvd.init()
    run_checks(globals(), hvd)
