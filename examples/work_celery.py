"""A Celery task that was there before is watched live from anywhere, and resumed, and stopped.

tidelog serve work_celery:app
celery -A work_celery:celery worker
curl -X POST '127.0.0.1:8000/imports?file=flats.csv'      # {"events": "/runs/…/events"}
"""

import asyncio
import os
import time

from celery import Celery
from fastapi import FastAPI

from tidelog import Tidelog

REDIS = os.environ.get("REDIS", "redis://127.0.0.1:6379/0")
celery = Celery("work_celery", broker=REDIS)
tide = Tidelog(REDIS, worker=celery)
app = FastAPI()
app.include_router(tide.router)


@celery.task
def import_file(run: str, file: str) -> None:
    with tide.writer(run=run) as out:
        for row in range(1, 101):
            time.sleep(0.01)
            out.progress(row, 100, f"Importing {file}")
        out.text(f"{file}: 100 rows.")


@app.post("/imports")
async def imports(file: str) -> dict[str, str]:
    run = await tide.reserve()
    await asyncio.to_thread(import_file.delay, run.id, file)
    return {"events": f"/runs/{run.id}/events"}
