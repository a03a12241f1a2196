"""Types of options that several heads share."""

from typing import Annotated

from pydantic import PositiveInt

from abaw.train.lists import COMMAS

Widths = Annotated[tuple[PositiveInt, ...], COMMAS]
