"""With real servers, files and workers."""
