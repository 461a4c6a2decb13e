"""`migrate`: a store's tables, made or brought up to date, or the SQL for those who run it themselves."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from threadline.cli.options import (
    Common,
    Db,
    FilePlace,
    Json,
    PgPlace,
    Place,
    Refusal,
    Schema,
    UserIdType,
    asked_place,
    find_place,
    opened,
    pg_class,
    refusals,
)
from threadline.cli.output import plain, print_json


def migrate(
    context: typer.Context,
    sql: Annotated[
        bool,
        typer.Option(
            "--sql",
            metavar="",
            help="Print SQL for PostgreSQL and run nothing: what the store still needs; without --db all of it.",
        ),
    ] = False,
    partitions: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="PostgreSQL: hash partitions of each table of a new store. Default: plain tables.",
            show_default=False,
        ),
    ] = None,
    schema: Schema = None,
    user_id_type: UserIdType = None,
    db: Db = None,
    as_json: Json = False,
) -> None:
    """Make a store, or bring its tables up to date. Safe to run at any time, by many at once.

    What a newer version of Threadline has made is refused. A program does the same when it opens a store, where its
    role may; with --sql a database administrator can do it instead.
    """
    common = Common.of(context)
    common = replace(
        common,
        schema=schema or common.schema,
        user_ids=user_id_type or common.user_ids,
        as_json=as_json or common.as_json,
    )
    if sql:
        _print_sql(common, asked_place(context, db), partitions)
        return
    place = find_place(common, db)
    if not isinstance(place, FilePlace):
        store = place.open(create=True, partitions=partitions)
    elif partitions is None:
        store = place.open(create=True)
    else:
        raise Refusal("--partitions is for PostgreSQL, and the store is a file")
    with opened(store) as memory:
        facts = memory.health()
    if not facts["ok"]:
        raise Refusal(facts["error"])
    if common.as_json:
        told = {"store": str(place), "backend": facts["backend"]}
        print_json(told | {"partitions": facts["partitions"]} if "partitions" in facts else told)
        return
    print(f"{plain(str(place))} is up to date")


def _print_sql(common: Common, place: Place | None, partitions: int | None) -> None:
    if isinstance(place, FilePlace):
        raise Refusal("--sql is for PostgreSQL, and the store is a file")
    with refusals():
        if place is None:
            text = pg_class().migration_sql(
                schema=common.schema,
                user_id_type=common.user_ids.value,
                partitions=partitions or 0,
            )
        else:
            place = replace(place, schema=common.schema, user_ids=common.user_ids)
            text = _pending_sql(place, partitions)
    print(text, end="")


def _pending_sql(place: PgPlace, partitions: int | None) -> str:
    store = pg_class()(
        place.dsn,
        schema=place.schema,
        user_id_type=place.user_ids.value,
        partitions=partitions,
        create=False,
    )
    try:
        return store.pending_sql()
    finally:
        store.release()
