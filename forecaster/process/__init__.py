"""The program as a process: signals, standard streams, secrets, locks."""
