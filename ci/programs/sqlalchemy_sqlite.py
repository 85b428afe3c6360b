"""SQLAlchemy's pool and sessions on sqlite, from fifty threads."""

import tempfile

from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from threads import run_all

THREADS, ROWS = 50, 10


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "row"
    id: Mapped[int] = mapped_column(primary_key=True)
    thread: Mapped[int]
    number: Mapped[int]


with tempfile.TemporaryDirectory() as directory:
    engine = create_engine(f"sqlite:///{directory}/test.db", pool_size=10,
                           pool_timeout=600, connect_args={"timeout": 600})
    Base.metadata.create_all(engine)

    def insert(thread):
        for number in range(ROWS):
            with Session(engine) as session, session.begin():
                session.add(Row(thread=thread, number=number))

    run_all(insert, THREADS)
    with Session(engine) as session:
        found = session.execute(select(Row.thread, func.count(), func.sum(Row.number))
                                .group_by(Row.thread).order_by(Row.thread)).all()
    engine.dispose()
    assert [tuple(row) for row in found] == [(n, ROWS, sum(range(ROWS)))
                                             for n in range(THREADS)]
print(f"{THREADS * ROWS} rows")
