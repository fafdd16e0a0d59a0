from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

from tidelog import Tidelog

app = FastAPI()
tide = Tidelog("sqlite:///tidelog.db")
app.include_router(tide.router)


def order(state: MessagesState) -> dict[str, Any]:
    """LangGraph runs this node again from its top when the answer comes."""
    item = state["messages"][-1].content
    agreed = interrupt({"question": f"Order {item}?", "options": ["yes", "no"]})
    return {"messages": [("ai", f"{item} is{' ' if agreed == 'yes' else ' not '}ordered.")]}


# A checkpointer in a file or a database, such as AsyncSqliteSaver, is what lets the graph outlive the process.
compiled = StateGraph(MessagesState).add_node("order", order).add_edge(START, "order").compile(InMemorySaver())
graph = tide.graph(compiled)


@app.post("/order")
@tide.stream(resume=graph.resume)
def ask(item: str) -> AsyncIterator[Any]:
    return graph.run({"messages": [("user", item)]})
