"""The services on one machine with a container engine, and what Docker Compose itself makes of the file."""
