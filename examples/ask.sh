curl -s -X POST -H 'Prefer: respond-async' 'localhost:8000/letter?to=Ann'
curl -s localhost:8000/runs/RUN                                   # "state": "waiting", "questions": [{"question": "q1", …}]
curl -s -X POST localhost:8000/runs/RUN/answer -H 'Content-Type: application/json' -d '{"question": "q1", "value": "yes"}'
tidelog answer RUN q1 yes                                         # the same
