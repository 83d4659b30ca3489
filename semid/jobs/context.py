"""What is known of items beside their embeddings: titles, categories, interactions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from semid.columns import id_type
from semid.errors import SemidError, display_path
from semid.jobs.job import require_like_ids, require_unique_ids
from semid.table_rows import values_of
from semid.tables import ParquetTable, open_table

if TYPE_CHECKING:
    from semid.coded_items import Categories, CodedItems
    from semid.met_items import Met
    from semid.quantizer import Quantizer


@dataclass(frozen=True)
class Context:
    """Tables beside an ids table; each may be left out.

    Attributes
    ----------
    ids, item_id : the ids table, and the id column of all
    items : table of items
    title, categories : its columns
    interactions : table of who met which item
    """

    ids: ParquetTable
    item_id: str
    items: ParquetTable | None
    title: str | None
    categories: str | None
    interactions: ParquetTable | None

    @classmethod
    def opened(
        cls,
        ids: ParquetTable,
        items: str | None,
        interactions: str | None,
        *,
        title: str,
        categories: str | None,
        item_id: str,
    ) -> Context:
        """Open what is given; raises `SemidError` for columns that are not there or will not do."""
        if categories is not None and items is None:
            raise SemidError(
                f"categories is {categories!r}, a column of the items table; give it by --items"
            )
        table = None if items is None else open_table(items)
        if table is not None:
            require_like_ids(ids, table, item_id, "convert one of them")
            if categories is None:
                table.require([title])
            else:
                _require_categories(table, categories)
        there = table is not None and title in table.schema.names
        met = None if interactions is None else open_table(interactions)
        if met is not None:
            id_type(met, item_id)
        return cls(ids, item_id, table, title if there else None, categories, met)

    def inputs(self) -> dict[str, ParquetTable | Path]:
        """Return the tables by their names."""
        given = {"items": self.items, "interactions": self.interactions}
        return {name: table for name, table in given.items() if table is not None}

    def columns(self) -> dict[str, str]:
        """Return the columns by what they are for."""
        named = {"title": self.title, "categories": self.categories}
        return {name: value for name, value in named.items() if value is not None}

    def met(
        self,
        items: CodedItems,
        model: Quantizer | None,
        stage: Path,
        *,
        memory_bytes: int = 1 << 30,
    ) -> Met | None:
        """Count the interactions; of a model that learnt from some, those that it did not see."""
        from semid.coded_items import all_item_ids
        from semid.config import parse
        from semid.fit_config import ContrastConfig
        from semid.met_items import count_met

        if self.interactions is None:
            return None
        learnt = None
        if model is not None and "interactions" in model.metrics:
            learnt = parse(ContrastConfig, model.config["contrast"], where="the model's contrast")
        ids = all_item_ids(items, self.ids, self.item_id)
        resources: dict[str, Any] = {"folder": stage, "memory_bytes": memory_bytes}
        return count_met(self.interactions, ids, learnt=learnt, item_id=self.item_id, **resources)

    def category_of(
        self, items: CodedItems, *, stage: Path | None = None, memory_bytes: int = 1 << 30
    ) -> Categories | None:
        """Look up the categories of the items; of an item that is there twice there is an error."""
        from semid.coded_items import category_of

        if self.items is None or self.categories is None:
            return None
        require_unique_ids(self.items, self.item_id, show=False)
        return category_of(
            *(items, self.ids, self.items, self.categories),
            item_id=self.item_id,
            temp_dir=stage,
            memory_bytes=memory_bytes,
        )

    def name_examples(self, figures: dict[str, Any], items: CodedItems) -> None:
        """Put item ids, and titles where there are some, in place of places."""
        from semid.coded_items import item_ids_at

        pairs = figures["collisions"]["harmful"]["examples"]
        worst = figures["fidelity"]["worst"]
        places = [place for pair in pairs for place in pair["items"]]
        places += [one["item"] for one in worst]
        if not places:
            return
        ids = item_ids_at(items, self.ids, np.array(places), self.item_id)
        titles: dict[Any, Any] = {}
        if self.items is not None and self.title is not None:
            titles = values_of(self.items, ids, self.title, item_id=self.item_id)
        named = (
            {"item_id": name} | ({"title": titles.get(name)} if titles else {})
            for name in ids.to_pylist()
        )
        for pair in pairs:
            pair["items"] = [next(named) for _ in pair["items"]]
        for one in worst:
            one["item"] = next(named)


def _require_categories(table: ParquetTable, column: str) -> None:
    table.require([column])
    kind = table.schema.field(column).type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    if not (text or pa.types.is_integer(kind) or pa.types.is_boolean(kind)):
        raise SemidError(
            f"{display_path(table.name)}: column '{column}' is "
            f"{table.schema.field(column).type}, but categories are text, integers or lists of "
            "text; name another with --categories"
        )
