started=$(curl -s -o /dev/null -w '%header{location}' -H 'Prefer: respond-async' -H 'Idempotency-Key: report-7' \
    --json '{"question": "Why?"}' http://127.0.0.1:8000/chat)
run="http://127.0.0.1:8000$started"

curl "$run"                                         # its state
set -- 0 running
while [ "$2" != ended ]; do                         # long-polls: whole answers, which no proxy holds back
    set -- $(curl -s -o lines.txt -w '%header{last-seq} %header{run-state}' \
        -H 'Accept: application/x-ndjson' "$run/events?after=$1&wait=30")
    cat lines.txt
done
curl "$run/transcript"                              # the result
