run=$(curl -s -o /dev/null -w '%header{location}' -H 'Prefer: respond-async' \
    --json '{"question": "Why?"}' http://127.0.0.1:8000/chat)

curl -X POST "http://127.0.0.1:8000$run/pause"      # {"result":"paused"}
curl "http://127.0.0.1:8000$run"                    # "state":"paused"
curl -X POST "http://127.0.0.1:8000$run/resume"     # {"result":"resumed"}
curl -N "http://127.0.0.1:8000$run/events"          # every event, once; run.state tells of the pause
