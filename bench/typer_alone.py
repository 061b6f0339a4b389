"""A command line that does nothing, for the price of the command line itself."""

import typer

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def nothing(*, once: bool = False) -> None:
    """Do nothing."""
    _ = once


if __name__ == "__main__":
    app()
