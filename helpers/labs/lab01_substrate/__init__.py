"""Lab 01: quota, admission, scheduler, GPU shapes."""
