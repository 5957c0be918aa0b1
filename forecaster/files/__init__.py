"""Tables in and out of files, and parsing of what services export."""
