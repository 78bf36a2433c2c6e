"""What others read: every format is made from a Report and from nothing else."""
