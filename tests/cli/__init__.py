"""The command line, the checks before a mount, the background process; nothing here mounts S3."""
