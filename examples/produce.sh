curl -X PUT http://127.0.0.1:8000/runs/nightly-7 -H 'Producer-Id: build'

curl http://127.0.0.1:8000/runs/nightly-7/events -H 'Producer-Id: build' -H 'Producer-Seq: 1' \
    --json '[{"type": "text.delta", "text": "compiled "}, {"type": "progress", "task": "build", "done": 1, "total": 2}]'
curl http://127.0.0.1:8000/runs/nightly-7/events -H 'Producer-Id: build' -H 'Producer-Seq: 3' \
    --json '[{"type": "text.delta", "text": "tested"}, {"type": "run.ended", "outcome": "completed"}]'
curl -N http://127.0.0.1:8000/runs/nightly-7/events
