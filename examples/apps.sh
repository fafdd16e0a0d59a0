curl --json '{"question": "What is a cursor?"}' -H 'Thread-Id: mine' http://127.0.0.1:8000/chat
curl --json '{"question": "What is 12 * 7?"}' http://127.0.0.1:8000/agent
