"""A small study: the digits job at several learning rates, with a callback that ends trainings which do not learn.

Run it by ``python examples/learning_rates.py``,
or by ``mpirun -n 4 python examples/learning_rates.py``: the same table, the same weights.
"""

from __future__ import annotations

import hpcnn

RATES = (0.00001, 0.001, 0.01)
EPOCHS = 4


class GiveUp(hpcnn.Callback):
    """Ends a training that is no better than guessing after two epochs.

    All ranks call it with the same values, and so decide alike.
    """

    def on_epoch_end(self, report: hpcnn.EpochReport, replica: object, control: hpcnn.Control) -> None:
        """Look at the values of the epoch."""
        if report.epoch == 2 and report.values["val_accuracy"] < 0.5:
            control.stop("it does not learn")


def main() -> None:
    """Train, and print the result on rank 0."""
    results = {}
    for rate in RATES:
        results[rate] = hpcnn.fit(  # no job given: the digits job that comes with hpcnn
            callbacks=[GiveUp()],
            overrides={
                "name": f"digits_rate_{rate}",
                "optimizer.learning_rate": rate,
                "train.epochs": EPOCHS,
                "run.display": "quiet",
                "run.loggers": ["csv"],
            },
        )
    if hpcnn.connect().rank == 0:
        for rate, fitted in results.items():
            print(f"rate {rate:<8} epochs {len(fitted.history)}  val_accuracy {fitted.values['val_accuracy']:.3f}")
        best = max(results, key=lambda rate: results[rate].values["val_accuracy"])
        print(f"best: {best}, in {results[best].folder}")


if __name__ == "__main__":
    main()
