"""``python -m thaw`` is the command ``thaw``."""

from thaw.commands import cli

if __name__ == "__main__":
    cli.main()
