"""What the course deploys and learners read; each package runs in an image of its own."""
