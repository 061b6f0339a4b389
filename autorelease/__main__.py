"""`python -m autorelease`: the same as the installed command."""

from autorelease.cli import main

if __name__ == "__main__":
    main()
