"""From Parquet into Parquet."""
