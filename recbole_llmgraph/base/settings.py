"""Settings of models, stages and training: typed, closed, with an error that names the mend."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from recbole_llmgraph.base.errors import UserError, unknown


class Settings(BaseModel):
    """Base of every settings class: unknown keys are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def read(cls, values: Mapping[str, Any], owner: str = "") -> Self:
        """Validate plain values.

        Raises:
            UserError: one line with the setting's name, what is wrong and the nearest known name.
        """
        owner = owner or cls.__name__
        for key in values:
            if key not in cls.model_fields:
                raise unknown(f"setting of {owner}", key, cls.model_fields)
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            told = first["msg"].removeprefix("Value error, ")
            if not first["loc"]:  # settings that do not go together; all of them would be many
                raise UserError(f"{owner}: {told}") from None
            name = ".".join(str(part) for part in first["loc"])
            raise UserError(f"{owner}.{name}={first.get('input')!r}: {told}") from None
