"""NumPy as all of the program imports it: made known to Polars once, before threads hand it arrays."""

import numpy as np
import numpy.typing as npt
import polars as pl

__all__ = ["np", "npt"]

# Polars loads NumPy when it meets the first array. If two threads meet theirs at the same time, one of them
# fails with "'module' object does not support item assignment". Importing a module locks out other threads.
pl.Series(np.empty(0))
