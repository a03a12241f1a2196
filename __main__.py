"""`python -m abaw` is the `abaw` command."""

from abaw.cli import main

if __name__ == "__main__":
    main()
