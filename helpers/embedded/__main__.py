"""`python -m helpers.embedded` is `course`."""

from helpers.cli import main

if __name__ == "__main__":
    main()
