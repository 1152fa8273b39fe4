"""What the cells of CSV files mean, all of which are texts: missing values, and numbers with a decimal comma."""

import re
from typing import TYPE_CHECKING

from adc_pipeline.corpus.readers.values import NOTHING

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

ROWS_LOOKED_AT = 1000


def without_empty(table: "DuckDBPyRelation", separator: str) -> "DuckDBPyRelation":
    r"""Return a table of texts with null for those that are empty, or \N, as databases write a missing value.

    Numbers with a decimal comma become whole ones. `separator` is what separated the cells.
    """
    from duckdb import CaseExpression, ColumnExpression, ConstantExpression, FunctionExpression

    null, missing = ConstantExpression(None), [ConstantExpression(""), ConstantExpression(r"\N")]
    whole = [ConstantExpression(each) for each in (",0+$", "")]
    columns = {name: ColumnExpression(name) for name in table.columns}
    for name in with_decimal_commas(table, separator):
        columns[name] = FunctionExpression("regexp_replace", columns[name], *whole)
    return table.select(
        *(
            CaseExpression(ColumnExpression(name).isin(*missing), null).otherwise(column).alias(name)
            for name, column in columns.items()
        )
    )


def with_decimal_commas(table: "DuckDBPyRelation", separator: str) -> list[str]:
    """Return the columns of which all cells are whole numbers written as 7,0.

    Programs write so where decimals have a comma, and a column of numbers also has cells without a value.
    """
    from duckdb import ColumnExpression, ConstantExpression, FunctionExpression

    found = [] if separator == "," else table.columns
    number = ConstantExpression(rf"(?i)[+-]?\d+,0{{1,2}}|{'|'.join(map(re.escape, NOTHING))}")
    # The first rows tell of nearly all columns that they are none.
    for rows in (table.limit(ROWS_LOOKED_AT), table):
        if found:
            fit = [FunctionExpression("regexp_full_match", ColumnExpression(name), number) for name in found]
            ((*fits,),) = rows.aggregate([FunctionExpression("bool_and", each) for each in fit]).fetchall()
            found = [name for name, fits_all in zip(found, fits, strict=True) if fits_all]
    return found
