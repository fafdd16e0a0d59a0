"""Rows of a database as a download: one document under 10 MB, a stream at constant memory above.

curl 127.0.0.1:8000/orders.csv -o orders.csv      curl '127.0.0.1:8000/orders.csv?after=29990'
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from starlette.responses import Response

from tidelog import Tidelog

ORDERS = 30_000


class Tables(DeclarativeBase):
    pass


class Order(Tables):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    note: Mapped[str]


engine = create_async_engine("sqlite+aiosqlite:///shop.db")
database = async_sessionmaker(engine)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
    """Some orders, to have something to export."""
    async with engine.begin() as connection:
        await connection.run_sync(Tables.metadata.drop_all)
        await connection.run_sync(Tables.metadata.create_all)
        orders = [{"id": n, "customer": f"customer {n % 97}", "note": "as always, " * 36} for n in range(1, ORDERS + 1)]
        await connection.execute(insert(Order), orders)
    yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)
# A store of its own: the log of an export is as large as the export, and is not kept for long.
tide = Tidelog("sqlite:///exports.db", retention=3600.0)
app.include_router(tide.router)


@app.get("/orders.csv")
async def orders(after: int = 0) -> Response:
    # Ordered by its primary key, so that a download which stalls needs no connection and goes on where it stopped.
    statement = select(Order).where(Order.id > after).order_by(Order.id)
    return tide.export(lambda: tide.rows(database, statement), filename="orders.csv")
