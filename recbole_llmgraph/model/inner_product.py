"""What models share whose score is the inner product of a user's and an item's vector."""

from abc import abstractmethod
from typing import Any, Self

from torch import Tensor

from recbole_llmgraph.host.models import GeneralRecommender


class InnerProductRecommender(GeneralRecommender):
    """Base of such models; vectors for scoring are computed once between two training steps.

    Shapes: U users and N items, padding (id 0) included; width d; B rows.
    """

    _kept: tuple[Tensor, Tensor] | None = None

    @abstractmethod
    def vectors(self) -> tuple[Tensor, Tensor]:
        """Users `[U, d]` and items `[N, d]` as they are scored."""

    def forget(self) -> None:
        """Drop the vectors kept for scoring: a training step is about to change the weights."""
        self._kept = None

    def renew(self) -> None:
        """Drop all that was computed: an epoch begins, or other weights have come."""
        self.forget()

    def tables(self) -> tuple[Tensor, Tensor]:
        """`vectors`, from memory where the weights are the same."""
        if self._kept is None or self.training:
            self._kept = self.vectors()
        return self._kept

    def train(self, mode: bool = True) -> Self:
        """Switch mode; an epoch begins here, under RecBole's trainer too."""
        self.renew()
        super().train(mode)
        return self

    def load_state_dict(self, *arguments: Any, **options: Any) -> Any:
        """Take weights over."""
        self.renew()
        return super().load_state_dict(*arguments, **options)

    def predict(self, interaction: Any) -> Tensor:
        """Score of each (user, item) row. `[B]`"""
        users, items = self.tables()
        return (users[interaction[self.USER_ID]] * items[interaction[self.ITEM_ID]]).sum(1)

    def full_sort_predict(self, interaction: Any) -> Tensor:
        """Scores of all items for each row's user. `[B * N]`"""
        users, items = self.tables()
        return (users[interaction[self.USER_ID]] @ items.T).view(-1)
