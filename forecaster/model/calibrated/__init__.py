"""The calibrated model: steered by what the catalogue itself did lately, and by how sure that makes it."""
