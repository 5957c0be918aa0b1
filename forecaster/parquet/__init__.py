"""Catalogues in Parquet files, forecast bucket by bucket, without a database."""
