run=$(curl -s -o /dev/null -w '%header{location}' -H 'Prefer: respond-async' \
    --json '{"question": "Why?"}' http://127.0.0.1:8000/chat)

curl "http://127.0.0.1:8000$run"                    # its state
curl "http://127.0.0.1:8000$run/transcript"         # the answer so far
curl -X POST "http://127.0.0.1:8000$run/stop"       # {"result":"stopped"}; the partial text stays
more=$(curl -s -o /dev/null -w '%header{location}' -X POST "http://127.0.0.1:8000$run/continue")
curl -N "http://127.0.0.1:8000$more/events"         # a new run that goes on from the partial text
curl -X POST "http://127.0.0.1:8000$run/retry"      # a new run that begins again; the old one stays
curl -N "http://127.0.0.1:8000$run/events"          # every event from the first on, then live
curl -X DELETE "http://127.0.0.1:8000$run"          # every byte is gone
