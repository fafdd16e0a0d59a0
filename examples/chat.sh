curl -N --json '{"question": "Why?"}' -H 'Accept: text/event-stream' http://127.0.0.1:8000/chat
curl --json '{"question": "Why?"}' http://127.0.0.1:8000/chat
