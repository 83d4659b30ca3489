"""``python -m semid`` is the command line."""

from semid.cli import main

if __name__ == "__main__":
    main()
