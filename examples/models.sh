curl -N --json '{"question": "Why do tides rise?"}' -H 'Accept: text/event-stream' -H 'Thread-Id: tides' http://127.0.0.1:8000/chat
curl --json '{"question": "When does the gate open?"}' http://127.0.0.1:8000/rag
curl -N --json '{"question": "What is the sum of 2 and 3?"}' -H 'Accept: text/event-stream' http://127.0.0.1:8000/agent
