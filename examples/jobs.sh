run=$(curl -s -o /dev/null -w '%header{location}' -H 'Prefer: respond-async' \
    --json '{"title": "Sales"}' http://127.0.0.1:8000/reports)

curl "http://127.0.0.1:8000$run"                        # its state: queued, running, paused, waiting, ended
curl -N "http://127.0.0.1:8000$run/events"              # watch it, from the beginning on; come back as often as you like
curl "http://127.0.0.1:8000$run/transcript"             # what it has given so far: text, data, the last progress
curl -X POST "http://127.0.0.1:8000$run/stop"           # already_ended, as it is
