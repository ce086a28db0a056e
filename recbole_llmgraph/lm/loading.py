"""Loading by other people's libraries: no bars or tables, and one line when it fails."""

from collections.abc import Iterator
from contextlib import contextmanager

from recbole_llmgraph.base.errors import UserError


@contextmanager
def quiet() -> Iterator[None]:
    """Let transformers report errors only, and put its settings back afterwards."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


@contextmanager
def reading(name: str, what: str) -> Iterator[None]:
    """Read `what` of the model `name`, quietly.

    Raises:
        UserError: instead of what the libraries raise for missing or damaged files.
    """
    from safetensors import SafetensorError

    try:
        with quiet():
            yield
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{name}: {what} cannot be read ({reason}); fetch the model again") from None
