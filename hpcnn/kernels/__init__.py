"""The compiled core: arithmetic whose every sum has one order, so that bits depend on the job alone."""
