import os

from fastapi import FastAPI
from openai import AsyncOpenAI
from pydantic import BaseModel

from tidelog import Tidelog

MODEL = os.environ.get("OPENAI_MODEL", "gpt-5.4-mini")
client = AsyncOpenAI(api_key=os.environ.get("OPENAI_API_KEY", "none"))  # OPENAI_BASE_URL names any other server
tide = Tidelog("sqlite:///tidelog.db")
app = FastAPI()
app.include_router(tide.router)


class Ask(BaseModel):
    question: str
