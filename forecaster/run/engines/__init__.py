"""Where batches are worked."""
