"""Types of options that several heads share."""

from typing import Annotated

from pydantic import Field

from abaw.train.lists import COMMAS

MAX_WIDTH, MAX_LAYERS = 65_536, 256  # far beyond all that is published: a number above is a mistake
Widths = Annotated[tuple[Annotated[int, Field(ge=1, le=MAX_WIDTH)], ...], COMMAS]
